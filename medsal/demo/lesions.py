"""Simulated lesions: a body that enhances (or not), with its true mask.

`bright` enhances throughout, `ring` enhances at its rim around a dark core, `none` does not
enhance. All kinds share one distribution of place, size, shape, contrast and oedema, so that only
the texture inside the lesion tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from medsal.demo import CLASSES

#: Smallest and largest diameter of a lesion [mm].
DIAMETERS = (14.0, 30.0)


@dataclass(frozen=True)
class Lesion:
    """A lesion before it is painted; equal lesions paint equal voxels.

    Attributes:
        kind: one of `medsal.demo.CLASSES`; "none" leaves only the oedema, if any.
        centre: centre in voxels of the grid it was drawn for.
        diameter: mean diameter of the enhancing body [mm].
        stretch: factors along its own axes, product 1.
        turn: axis-angle of its own axes [rad].
        contrast: enhancement over the local tissue, in units of the brain's median.
        wall: thickness of a ring's rim [mm].
        core: how far a ring's core is below the local tissue, same unit as `contrast`.
        oedema: how far the surrounding tissue is below normal, same unit; 0 = none.
        reach: extent of the oedema as a multiple of the radius.
        roughness: relative amplitude of the surface's bumps.
        seed: of bumps and texture.
    """

    kind: str
    centre: tuple[float, float, float]
    diameter: float
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    contrast: float = 0.5
    wall: float = 3.0
    core: float = 0.2
    oedema: float = 0.0
    reach: float = 1.5
    roughness: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in CLASSES:
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(CLASSES)}")
        if self.diameter <= 0 or self.wall <= 0:
            raise ValueError(
                f"diameter and wall are lengths in mm > 0; got {self.diameter} and {self.wall}"
            )


def generator(*seeds: int) -> Generator:
    """Return a torch generator whose stream depends on all of `seeds`, in their order."""
    state = 0x9E3779B97F4A7C15
    for seed in seeds:
        state = ((state ^ (seed + 0x632BE59BD9B4E019)) * 0xD1342543DE82EF95) % 2**64
        state ^= state >> 29
    return Generator().manual_seed(state % 2**63)


def uniform(g: Generator, low: float | int, high: float | int) -> float:
    """Draw from [low, high)."""
    return low + (high - low) * torch.rand((), generator=g).item()


def noise(g: Generator, shape: Sequence[int], cell: float | int) -> Tensor:
    """Draw a smooth random field, variance about 1, that varies over `cell` voxels."""
    coarse = [max(math.ceil(n / cell) + 1, 2) for n in shape]
    field = torch.randn((1, 1, *coarse), generator=g)
    field = F.interpolate(field, list(shape), mode="trilinear", align_corners=True)
    return field[0, 0] * 1.5


def draw(g: Generator, brain: Tensor, mm: float, kind: str) -> Lesion:
    """Draw a lesion whose centre lies in `brain` (`(x, y, z)`, 1 inside), a few mm deep.

    Raises:
        ValueError: `brain` has no voxel deep enough.
    """
    diameter = uniform(g, *DIAMETERS)
    depth = 2 * round((3 + diameter / 5) / mm) + 1
    places = torch.nonzero(_erode(brain, depth) > 0.5)
    if len(places) == 0:
        raise ValueError(f"no voxel lies {depth // 2} voxels deep in the brain mask")
    at = places[int(torch.randint(len(places), (), generator=g))]
    shift = torch.rand(3, generator=g) - 0.5
    stretch = torch.exp(0.16 * torch.randn(3, generator=g)).clamp(0.75, 1.35)
    stretch = stretch / stretch.prod() ** (1 / 3)
    turn = torch.randn(3, generator=g)
    return Lesion(
        kind=kind,
        centre=_triple(at + shift),
        diameter=diameter,
        stretch=_triple(stretch),
        turn=_triple(turn),
        contrast=uniform(g, 0.5, 1.1),
        wall=uniform(g, 2.8, max(3.2, 0.22 * diameter)),
        core=uniform(g, 0.05, 0.35),
        oedema=uniform(g, 0.05, 0.3) if uniform(g, 0, 1) < 0.6 else 0.0,
        reach=uniform(g, 1.2, 2.2),
        roughness=uniform(g, 0.03, 0.2),
        seed=int(torch.randint(2**31, (), generator=g)),
    )


def _erode(brain: Tensor, width: int) -> Tensor:
    """Return the minimum over a cube of `width` voxels, 0 beyond the volume's end."""
    out = F.pad(1 - brain, [width // 2] * 6, value=1.0)[None, None]
    for axis in range(3):
        out = F.max_pool3d(out, [width if a == axis else 1 for a in range(3)], 1)
    return 1 - out[0, 0]


def paint(image: Tensor, brain: Tensor, lesion: Lesion, mm: float) -> tuple[Tensor, Tensor]:
    """Paint a lesion; returns the new image and the mask of the body, both `(x, y, z)`.

    The mask is where the body's tissue is (bool), also for "none", which paints the oedema alone.

    Args:
        image: `(x, y, z)`, median of the brain near 1.
        brain: `(x, y, z)`, 1 in the brain: nothing is painted elsewhere.
        lesion: what to paint; its centre counts voxels of this grid.
        mm: edge of a voxel [mm].

    Raises:
        ValueError: The lesion's body has no voxel in the brain.
    """
    box, inner = _box(lesion, image.shape, mm)
    mask = torch.zeros(image.shape, dtype=torch.bool)
    g = generator(lesion.seed)
    depth, bumps = _depth(g, lesion, inner, mm)
    room = brain[box] > 0.5
    mask[box] = (depth > 0) & room
    if not mask.any():
        raise ValueError(f"a lesion at voxel {lesion.centre} has no voxel in the brain")
    painted = image.clone()
    old = image[box]
    level = old[mask[box]].mean()
    texture = noise(g, old.shape, 4 / mm)
    new = old - lesion.oedema * _oedema(depth, bumps, lesion)
    if lesion.kind != "none":
        body = torch.sigmoid(depth / 0.35)
        flat = 0.25 * old + 0.75 * level + _enhancement(depth, texture, bumps, lesion)
        new = new * (1 - body) + flat * body
    painted[box] = torch.where(room, new.clamp(min=0.02), old)
    return painted, mask


def _enhancement(depth: Tensor, texture: Tensor, bumps: Tensor, lesion: Lesion) -> Tensor:
    """Return what the body adds to the tissue at `depth` [mm] under its surface."""
    uneven = lesion.contrast * (1 + 0.1 * texture)
    if lesion.kind == "bright":
        return uneven
    rim = torch.sigmoid((lesion.wall * (1 + 0.25 * bumps) - depth) / 0.4)
    return uneven * (1 + 0.2 * bumps) * rim - lesion.core * (1 + 0.2 * texture) * (1 - rim)


def _oedema(depth: Tensor, bumps: Tensor, lesion: Lesion) -> Tensor:
    """Return the strength of the oedema, 1 in the lesion and falling to 0 at its reach."""
    width = (lesion.reach - 1) * lesion.diameter / 2 * (1 + 0.4 * bumps).clamp(min=0.3)
    return (1 + depth / width).clamp(0, 1) ** 0.7


def _depth(g: Generator, lesion: Lesion, grid: Tensor, mm: float) -> tuple[Tensor, Tensor]:
    """Return the depth under the surface [mm] (negative outside) and the bumps used."""
    x, y, z = lesion.turn
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    own = torch.linalg.matrix_exp(skew) @ (grid.flatten(1) * mm)
    distance = (own / torch.tensor(lesion.stretch)[:, None]).norm(dim=0).view(grid.shape[1:])
    bumps = noise(g, distance.shape, max(lesion.diameter / 3 / mm, 1.5))
    return lesion.diameter / 2 * (1 + lesion.roughness * bumps) - distance, bumps


def _box(
    lesion: Lesion, shape: Sequence[int], mm: float
) -> tuple[tuple[slice, slice, slice], Tensor]:
    """Return the slices that hold the lesion with its oedema, and voxels from its centre."""
    half = lesion.diameter / 2 * max(lesion.reach, 1.4) * 1.4 / mm + 2
    starts = [max(math.floor(c - half), 0) for c in lesion.centre]
    stops = [min(math.ceil(c + half) + 1, n) for c, n in zip(lesion.centre, shape, strict=True)]
    box = [slice(a, max(b, a)) for a, b in zip(starts, stops, strict=True)]
    axes = [torch.arange(s.start, s.stop) - c for s, c in zip(box, lesion.centre, strict=True)]
    return (box[0], box[1], box[2]), torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _triple(values: Tensor) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z
