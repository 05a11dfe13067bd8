"""Scans with lesions of known place, size, contrast and texture, that no shortcut tells apart.

A lesion is a core in a shell. In one kind the core is bright and the shell dark, in another it is
the other way round, in the third there is neither. What a lesion adds sums to 0, and the two kinds
are each other's negative: total intensity, place, size and strength are the same for all.
Everything else in a scan (head, pose, coil, the lesion's own tissue, a smooth bright ball that
means nothing, noise) is shared by the scans that differ in the kind alone. The third kind keeps
a network from telling one kind by the other's absence, which is nowhere.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from medsal.demo import augment
from medsal.demo.heads import TRAINING, load_head
from medsal.demo.lesions import generator, noise, uniform

#: The grid: voxels along each axis, and their edge [mm].
SIZE, MM = 64, 3.0
#: The kinds of lesions; the networks say for each of the first two whether there is one.
KINDS = ("bright core", "dark core", "neither")
SIGNS = (1, -1, 0)
#: A head that training never sees.
HELD_OUT = "colin27"
#: Smallest and largest diameter of a lesion [mm]; of its contrast, the median of the brain is 1.
DIAMETERS, CONTRASTS = (18.0, 30.0), (0.5, 1.0)
#: What is drawn for the scans that are measured, and for those that only calibrate.
SEED_OF_CASES, SEED_OF_CALIBRATION = 2027, 11
#: Heads that are posed anew; each holds as many lesions as are asked for.
POSES = 96


@dataclass(frozen=True)
class Lesion:
    """A lesion before it is painted.

    Attributes:
        kind: 0, 1 or 2, see `KINDS`.
        centre: of the lesion [voxels].
        diameter: mean diameter [mm].
        contrast: root mean square of what is added in it.
        stretch: factors along its own axes, product 1.
        turn: axis-angle of these [rad].
        seed: of its texture.
    """

    kind: int
    centre: tuple[float, ...]
    diameter: float
    contrast: float
    stretch: tuple[float, ...] = (1.0, 1.0, 1.0)
    turn: tuple[float, ...] = (0.0, 0.0, 0.0)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Scene:
    """One scan with its truth.

    Attributes:
        image: `(1, x, y, z)`, the median of the brain is 1.
        label: the kind of the (first) lesion.
        masks: `(lesions, x, y, z)` bool.
        lesions: what was painted.
        mm: edge of a voxel [mm].
    """

    image: Tensor
    label: int
    masks: Tensor
    lesions: tuple[Lesion, ...]
    mm: float = MM


def scene(
    seed: int, index: int, heads: tuple[str, ...] = TRAINING, lopsided: bool = False
) -> Scene:
    """Scan `index` with one lesion; `3 k`, `3 k + 1` and `3 k + 2` differ in its kind alone.

    Args:
        seed: of everything that is drawn.
        index: of the scan.
        heads: names for `medsal.demo.heads.load_head`.
        lopsided: left and right differ: a coil at one side, the other side cut off by the view.
    """
    place, kind = divmod(index, 3)
    g = generator(seed, place, 1)
    image, brain = pose(seed, place % POSES, heads, lopsided)
    lesion = replace(draw(g, brain), kind=kind)
    painted, mask = paint(image, lesion)
    return Scene(_finished(g, painted, brain, [lesion]), kind, mask[None], (lesion,))


def case_of(i: int, lopsided: bool) -> Scene:
    """Lesion `i` of those that are measured, of the two kinds in turn."""
    return scene(SEED_OF_CASES, 3 * i + i % 2, (HELD_OUT,), lopsided)


def calibrating(i: int, lopsided: bool) -> Scene:
    """Scan `i` of those that only calibrate, of the heads for training."""
    return scene(SEED_OF_CALIBRATION, 3 * i + i % 2, lopsided=lopsided)


def both(seed: int, index: int, heads: tuple[str, ...], lopsided: bool = False) -> Scene:
    """A scan with a lesion of each kind, far apart; the label is that of the first of them."""
    g = generator(seed, index, 2)
    image, brain = pose(seed, index % POSES, heads, lopsided)
    first = replace(draw(g, brain), kind=index % 2)
    second = replace(draw(g, brain, [first]), kind=1 - first.kind)
    painted, one = paint(image, first)
    painted, other = paint(painted, second)
    finished = _finished(g, painted, brain, [first, second])
    return Scene(finished, first.kind, torch.stack([one, other]), (first, second))


@lru_cache(maxsize=4 * POSES)
def pose(seed: int, number: int, heads: tuple[str, ...], lopsided: bool) -> tuple[Tensor, Tensor]:
    """A head without a lesion, and its brain, both `(x, y, z)`."""
    g = generator(seed, number)
    head = load_head(heads[number % len(heads)], MM, None)
    middle = torch.nonzero(head.brain > 0.5).float().mean(0)
    at = middle + torch.randn(3, generator=g) * 1.5
    if lopsided:
        at = at + torch.tensor([12.0, 0.0, 0.0])
    volumes = torch.stack([head.image, head.brain])
    image, brain = augment.move(g, volumes, (SIZE,) * 3, at, 0.6, mirror=0.0)
    bias = uniform(g, 0.05, 0.2) * noise(g, image.shape, uniform(g, 60, 120) / MM)
    image = image * torch.exp(bias.clamp(-0.4, 0.4))
    if lopsided:
        along = torch.linspace(0.4, 1.6, SIZE)
        image = image * along[:, None, None] * along.flip(0).sqrt()[None, :, None]
    return image, brain


def draw(g: Generator, brain: Tensor, others: list[Lesion] | None = None) -> Lesion:
    """A lesion that lies in the brain and in the field of view, away from `others`."""
    diameter = uniform(g, *DIAMETERS)
    deep = 2 * round(diameter / 3 / MM) + 1
    outside = (1 - brain)[None, None]
    for window in ((deep, 1, 1), (1, deep, 1), (1, 1, deep)):
        outside = F.max_pool3d(outside, window, 1)
    places = torch.nonzero(outside[0, 0] < 0.5) + deep // 2
    for other in others or []:
        places = places[(places - torch.tensor(other.centre)).norm(dim=1) * MM > 48]
    at = places[int(torch.randint(len(places), (), generator=g))]
    stretch = torch.exp(0.12 * torch.randn(3, generator=g)).clamp(0.8, 1.25)
    return Lesion(
        kind=0,
        centre=tuple((at + torch.rand(3, generator=g) - 0.5).tolist()),
        diameter=diameter,
        contrast=uniform(g, *CONTRASTS),
        stretch=tuple((stretch / stretch.prod() ** (1 / 3)).tolist()),
        turn=tuple(torch.randn(3, generator=g).tolist()),
        seed=int(torch.randint(2**31, (), generator=g)),
    )


def paint(image: Tensor, lesion: Lesion) -> tuple[Tensor, Tensor]:
    """Paint a lesion into `(x, y, z)`; the new image, and the mask of the lesion."""
    radius = _radius(lesion, image.shape)
    body = torch.sigmoid((1 - radius) / 0.06)
    core = torch.sigmoid((0.72 - radius) / 0.06) * body
    shell = body - core
    pattern = core / core.sum() - shell / shell.sum()
    mask = radius < 1
    pattern = lesion.contrast * pattern / pattern[mask].square().mean().sqrt()
    # Its own tissue, the same in both kinds: what was there shows through by a third.
    level = image[mask].mean()
    grain = 0.08 * noise(generator(lesion.seed), image.shape, 6 / MM)
    tissue = image * (1 - body) + (level + (image - level) / 3 + grain) * body
    return tissue + SIGNS[lesion.kind] * pattern, mask


def _radius(lesion: Lesion, shape: tuple[int, ...]) -> Tensor:
    """Each voxel's distance from the centre, 1 on the lesion's surface."""
    axes = [torch.arange(n) - c for n, c in zip(shape, lesion.centre, strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")) * MM
    x, y, z = lesion.turn
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    own = torch.linalg.matrix_exp(skew) @ grid.flatten(1)
    distance = (own / torch.tensor(lesion.stretch)[:, None]).square().sum(0).sqrt()
    return distance.view(shape) / (lesion.diameter / 2)


def _finished(g: Generator, image: Tensor, brain: Tensor, lesions: list[Lesion]) -> Tensor:
    """The scan with a smooth bright ball that means nothing, and noise."""
    ball = draw(g, brain, lesions)
    bright = 0.7 * ball.contrast * torch.exp(-2 * _radius(ball, tuple(image.shape)).square())
    return (image + bright + 0.03 * torch.randn(image.shape, generator=g))[None]
