"""Does the affine tell the truth? The network's image must agree with the scan where it says.

A head is nearly the same mirrored, so the correlation at one place says little. The image is
therefore also tried flipped, with its axes swapped, and shifted: the place that the affine names
must be the best one. Intensities may have been clipped, scaled, or inverted on the way.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from jaxtyping import Float32

from medsal.space.grid import Grid, coverage, resample
from medsal.space.lattice import Lattice, clipped, coarse, correlations

LOW = 0.3
"""An agreement below this says that the image is not this scan, or does not lie there."""
CLEAR, GAIN = 0.65, 0.003
"""Another place is better when it leaves less than this part of the variance unexplained, and its
agreement is higher by this much (a perfect fit is not compared with rounding errors)."""
SWAPPED = 0.95
"""Above this agreement swapped axes are not tried: none of the heads measured came near it."""
BLOCK = 128
"""Small shifts are tried at full resolution, on a block of this many voxels along an axis."""


@dataclass(frozen=True)
class Agreement:
    """How well the network's image agrees with the scan, and what would agree better.

    Attributes:
        r: absolute correlation of the image and the scan where the affine says that they lie;
            None where one of them is constant and nothing can be told.
        other: the same for the best other place that was tried.
        place: that place in words, e.g. "axis 0 flipped".
    """

    r: float | None
    other: float
    place: str

    @property
    def refused(self) -> bool:
        """Whether the image lies elsewhere than its affine says."""
        return self.r is not None and (self.r < LOW or _better(self.other, self.r))

    @property
    def ambiguous(self) -> bool:
        """Whether the other place agrees just as well: a scan that is its own mirror image."""
        return self.r is not None and self.r - self.other < 1e-3


def agree(
    image: Float32[np.ndarray, "c *s"],
    grid: Grid,
    scan: Float32[np.ndarray, "k *t"],
    home: Grid,
) -> Agreement:
    """Compares the network's image on its grid with the scan on its own, channel by channel."""
    volume, whole = Grid(grid.volume, grid.affine), Grid(home.volume, home.affine)
    tried = [
        _agree(a.reshape(volume.shape), volume, b.reshape(whole.shape), whole)
        for a, b in _pairs(image, scan)
    ]
    return max(tried, key=lambda each: -1.0 if each.r is None else each.r)


def _pairs(image: Any, scan: Any) -> Iterator[tuple[Any, Any]]:
    """Channels to compare: each with its own, or each of the image with the scan's mean."""
    if len(image) == len(scan):
        yield from list(zip(image, scan, strict=True))[:4]
    else:
        grey = scan.mean(0)
        yield from ((channel, grey) for channel in image[:4])
        if len(image) > 1:
            yield image.mean(0), grey


def _agree(image: Any, grid: Grid, scan: Any, home: Grid) -> Agreement:
    if np.ptp(image) == 0 or np.ptp(scan) == 0 or not coverage(home, grid).any():
        constant = np.ptp(image) == 0 or np.ptp(scan) == 0
        return Agreement(None if constant else 0.0, 0.0, "")
    looks = [_places(look, grid, scan, home) for look in _looks(image)]
    return max(looks, key=lambda each: each.r or 0.0)


def _looks(image: Any) -> Iterator[Any]:
    """The image; and with a constant background that lies amid its values put at the bottom.

    `NormalizeIntensity(nonzero=True)` leaves the background of a stripped brain at its mean.
    """
    yield image
    sample = image.ravel()[:: max(1, image.size // 100_000)]
    values, counts = np.unique(sample, return_counts=True)
    common = values[counts.argmax()]
    if counts.max() > 0.05 * sample.size and sample.min() < common < sample.max():
        yield np.where(image == common, sample.min(), image)


def _places(image: Any, grid: Grid, scan: Any, home: Grid) -> Agreement:
    """As it is, shifted by a voxel or two, flipped at every shift, and with swapped axes."""
    image, grid = _overlap(image, grid, home)
    nudged = _nudged(image, grid, scan, home)
    elsewhere = nudged.r is not None and _better(nudged.other, nudged.r)
    if elsewhere and nudged.other > SWAPPED:
        return nudged
    lattice = coarse(image, grid.affine, scan, home)
    r, best = _slide(lattice, (), "")
    places = [best, *_flipped(lattice, "")]
    if r < SWAPPED:
        for order in list(permutations(range(3)))[1:]:
            if all(order[a] == a for a in range(3) if grid.volume[a] == 1):
                turned = coarse(image.transpose(order), grid.affine, scan, home)
                words = f"its axes are put in the order {order}"
                places += [_slide(turned, (), words)[1], *_flipped(turned, words)]
    # Blocks of voxels that don't line up on the two grids blur the lattice, not the finer look.
    found = Agreement(max(r, nudged.r or 0.0), *max(places))
    return nudged if elsewhere and not (found.refused and found.other > nudged.other) else found


def _overlap(image: Any, grid: Grid, home: Grid) -> tuple[Any, Grid]:
    """The image without the padding that lies beside the scan."""
    known = coverage(home, grid)
    start, stop = (list(f) for f in zip(*(_ends(known, axis) for axis in range(3)), strict=True))
    cut = image[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    return cut, Grid(cut.shape, _moved(grid.affine, start))


def _ends(known: Any, axis: int) -> tuple[int, int]:
    where = np.flatnonzero(known.any(tuple(a for a in range(3) if a != axis)))
    return int(where[0]), int(where[-1]) + 1


def _moved(affine: Any, start: list[int]) -> Any:
    out = affine.copy()
    out[:3, 3] = (affine @ [*start, 1])[:3]
    return out


def _flipped(lattice: Lattice, words: str) -> Iterator[tuple[float, str]]:
    for flips, said in _flips(tuple(lattice.image.shape)):
        yield _slide(lattice, flips, f"{words} and {said}" if words else said)[1]


def _flips(shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    axes = [axis for axis in range(3) if shape[axis] > 1]
    for chosen in product((False, True), repeat=len(axes)):
        flips = tuple(axis for axis, flip in zip(axes, chosen, strict=True) if flip)
        if flips:
            names = " and ".join(map(str, flips))
            yield (
                flips,
                f"axis {names} is flipped" if len(flips) == 1 else f"axes {names} are flipped",
            )


def _slide(lattice: Lattice, flips: tuple[int, ...], words: str) -> tuple[float, tuple[float, str]]:
    """The agreement at no shift, and the best one elsewhere with its place in words."""
    r = correlations(lattice, flips)
    zero = tuple(n // 2 for n in r.shape)
    here = float(r[zero])
    if not words:
        # The neighbours of the place itself are the business of the nudges, at full resolution.
        r[tuple(slice(max(0, z - 1), z + 2) for z in zero)] = 0
    top = np.unravel_index(int(r.argmax()), r.shape)
    steps = [(int(i) - z) * f for i, z, f in zip(top, zero, lattice.factors, strict=True)]
    shift = f"it is shifted by about {steps} voxels" if any(steps) else ""
    return here, (float(r[top]), " and ".join(filter(None, (words, shift))))


def _nudged(image: Any, grid: Grid, scan: Any, home: Grid) -> Agreement:
    """Flips, and shifts by one to three voxels, at the resolution of the network's own grid."""
    start = [max(0, (n - BLOCK) // 2) for n in image.shape]
    block = clipped(image[tuple(slice(s, s + BLOCK) for s in start)])
    wide = [3 if n > 1 else 0 for n in block.shape]
    affine = _moved(grid.affine, [s - w for s, w in zip(start, wide, strict=True)])
    around = Grid(tuple(n + 2 * w for n, w in zip(block.shape, wide, strict=True)), affine)
    there, known = resample(clipped(scan)[None], home.affine, around)[0], coverage(home, around)
    places = [
        (_r(np.flip(block, flips), there, known, wide), words)
        for flips, words in _flips(block.shape)
    ]
    for axis, by in product(range(3), (-3, -2, -1, 1, 2, 3)):
        if wide[axis]:
            moved = [w + by * (a == axis) for a, w in enumerate(wide)]
            words = f"it is shifted by {by} voxels along axis {axis}"
            places.append((_r(block, there, known, moved), words))
    return Agreement(_r(block, there, known, wide), *max(places))


def _better(other: float, r: float) -> bool:
    return 1 - other**2 < CLEAR * (1 - r**2) and other > r + GAIN


def _r(block: Any, there: Any, known: Any, start: list[int]) -> float:
    window = tuple(slice(s, s + n) for s, n in zip(start, block.shape, strict=True))
    mask = known[window]
    a, b = block[mask].astype(np.float64), there[window][mask].astype(np.float64)
    if a.size < 8 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(abs(np.corrcoef(a, b)[0, 1]))
