"""Two volumes on one coarse lattice, and their correlation at every shift."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from medsal.space.grid import Grid, coverage, resample

CELLS = 32
"""How many cells of the lattice the image has along an axis, at most."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """The network's image, and the scan in a box that is half an image wider at every side.

    Attributes:
        image: `(x, y, z)`, clipped, mean 0 and standard deviation 1.
        scan: `(2x, 2y, 2z)` or so, likewise, 0 where unknown.
        known: 1 where the scan is, 0 beside it.
        factors: how many of the image's voxels make a cell, along each axis.
    """

    image: Tensor
    scan: Tensor
    known: Tensor
    factors: tuple[int, ...]


def coarse(image: Any, affine: Any, scan: Any, home: Grid) -> Lattice:
    """Averages the image into cells and brings the scan there, averaged over about as much."""
    factors = tuple(max(1, -(-n // CELLS)) for n in image.shape)
    small, place = _pool(image, affine, factors)
    cell = np.linalg.norm((np.linalg.inv(home.affine) @ place)[:3, :3], axis=1)
    near = tuple(max(1, min(int(s), n)) for s, n in zip(cell, home.volume, strict=True))
    less, there = _pool(scan, home.affine, near)
    margin = [n // 2 for n in small.shape]
    place[:3, 3] = (place @ [*(-m for m in margin), 1])[:3]
    box = Grid(tuple(n + 2 * m for n, m in zip(small.shape, margin, strict=True)), place)
    known = coverage(home, box)
    moved = np.where(known, _standard(clipped(resample(less[None], there, box)[0]), known), 0)
    return Lattice(
        torch.from_numpy(_standard(clipped(small), np.ones(small.shape, bool))),
        torch.from_numpy(moved),
        torch.from_numpy(known.astype(np.float32)),
        factors,
    )


def clipped(data: Float32[np.ndarray, "*s"]) -> Float32[np.ndarray, "*s"]:
    """The data between its first and its 99th percentile."""
    low, high = np.percentile(data.ravel()[:: max(1, data.size // 1_000_000)], [1, 99])
    return np.clip(data, np.float32(low), np.float32(high)) if low < high else data


def correlations(lattice: Lattice, flips: tuple[int, ...]) -> Float[Tensor, "i j k"]:
    """|r| of the flipped image and the scan at every shift by up to half an image, by FFT.

    Only the part counts where the scan is known (Padfield 2012, doi:10.1109/TIP.2011.2181402, for
    one mask); shifts with less than 0.7 of the overlap of no shift are 0.
    """
    box = list(lattice.scan.shape)
    image = lattice.image.flip(flips) if flips else lattice.image
    a, a2, one = (torch.fft.rfftn(x, s=box).conj() for x in (image, image**2, image * 0 + 1))
    w, scan = lattice.known, lattice.scan
    fw, fb, fb2 = (torch.fft.rfftn(x) for x in (w, scan, scan**2))
    inside = tuple(slice(0, b - n + 1) for b, n in zip(box, image.shape, strict=True))

    def over(left: Tensor, right: Tensor) -> Tensor:
        moved: Tensor = torch.fft.irfftn(left * right, s=box)
        return moved[inside]

    n, sum_a, sum_b = over(one, fw).clamp_min(1), over(a, fw), over(one, fb)
    var_a = over(a2, fw) - sum_a**2 / n
    var_b = over(one, fb2) - sum_b**2 / n
    both = over(a, fb) - sum_a * sum_b / n
    still = n[tuple(m // 2 for m in n.shape)]
    # Where a window is flat, r is noise over noise.
    flat = torch.minimum(var_a, var_b) < 0.02 * n
    r = both.abs() / (var_a.clamp_min(1e-6) * var_b.clamp_min(1e-6)).sqrt()
    return r.clamp_max(1).masked_fill(flat | (n < 0.7 * still) | (n < 8), 0)


def _pool(data: Any, affine: Any, factors: tuple[int, ...]) -> tuple[Any, Any]:
    """Averages over blocks of voxels; a remainder is left out evenly at both sides."""
    shape = [n // f for n, f in zip(data.shape, factors, strict=True)]
    start = [(m - n * f) // 2 for m, n, f in zip(data.shape, shape, factors, strict=True)]
    ends = [s + n * f for s, n, f in zip(start, shape, factors, strict=True)]
    cut = data[tuple(slice(s, e) for s, e in zip(start, ends, strict=True))]
    split = cut.reshape([x for pair in zip(shape, factors, strict=True) for x in pair])
    place = affine.copy()
    place[:3, :3] = affine[:3, :3] * factors
    place[:3, 3] = (affine @ [*(s + (f - 1) / 2 for s, f in zip(start, factors, strict=True)), 1])[
        :3
    ]
    return np.ascontiguousarray(split.mean((1, 3, 5)), dtype=np.float32), place


def _standard(data: Any, mask: Any) -> Any:
    values = data[mask].astype(np.float64)
    spread = values.std() if values.size else 0.0
    return ((data - (values.mean() if values.size else 0)) / (spread or 1.0)).astype(np.float32)
