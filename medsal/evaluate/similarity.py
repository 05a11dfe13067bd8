"""How alike two maps are: by the order of their voxels, and by their structure."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medsal.evaluate.arguments import same_shape, shaped
from medsal.methods.many import wide
from medsal.ops import spatial
from medsal.probe import quietly
from medsal.types import Map, Scores

# Wang et al., 2004, section III-B: the window's standard deviation and width, K1 and K2.
_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
SIGMA, WIDTH, K1, K2 = 1.5, 11, 0.01, 0.03


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike maps are, each ``(n, ...)``.

    Attributes:
        rank: Spearman's rank correlation.
        magnitude: that of the absolute values.
        ssim: the structural similarity.
    """

    rank: Tensor
    magnitude: Tensor
    ssim: Tensor

    @property
    def values(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.rank, self.magnitude, self.ssim


def similarity(one: Tensor, other: Tensor) -> Similarity:
    """How alike two maps are, each number ``(n,)``; see `rank_correlation` and `ssim`."""
    rank = rank_correlation(one, other)
    signed = min(float(one.amin()), float(other.amin())) < 0
    magnitude = rank_correlation(one, other, magnitude=True) if signed else rank
    return Similarity(rank, magnitude, ssim(one, other))


def stacked(found: Sequence[Similarity]) -> Similarity:
    """Several similarities ``(n,)`` as one, ``(n, m)``."""
    return Similarity(
        *(torch.stack(each, 1) for each in zip(*(one.values for one in found), strict=True))
    )


def pairwise(maps: list[Map]) -> Similarity:
    """How alike each two of several maps are: matrices ``(n, m, m)``, of 1 on the diagonal."""
    count, samples = len(maps), len(maps[0])
    matrices = torch.eye(count).expand(3, samples, count, count).clone()
    for i in range(count):
        for j in range(i):
            found = similarity(maps[i], maps[j])
            for k, each in enumerate(found.values):
                matrices[k, :, i, j] = matrices[k, :, j, i] = each.cpu()
    return Similarity(*matrices)


@quietly()
def rank_correlation(one: Tensor, other: Tensor, magnitude: bool = False) -> Scores:
    """Spearman's rank correlation of two maps' voxels, ``(n,)``, from -1 to 1.

    Pearson's correlation of the ranks; equal values share their mean rank. A constant map orders
    nothing: its correlation with any map is 0, also with another constant one.

    Source: Spearman, 1904, "The Proof and Measurement of Association between Two Things",
    doi:10.2307/1412159; for maps, with and without the sign, Adebayo et al., 2018, "Sanity Checks
    for Saliency Maps", arXiv:1810.03292, section 3.

    Args:
        one: ``(n, 1, *s)``.
        other: ``(n, 1, *s)``.
        magnitude: compare the maps' absolute values.

    Raises:
        ValueError: when their shapes differ.
    """
    one, other = same_shape(one, other)
    if magnitude:
        one, other = one.abs(), other.abs()
    pairs = zip(one.flatten(1), other.flatten(1), strict=True)
    return torch.stack([_cosine(ranks(a), ranks(b)) for a, b in pairs]).float()


def ranks(values: Tensor) -> Tensor:
    """The rank of each value of ``(m,)``, less the mean rank; equal values share their mean."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    below = counts.cumsum(0) - counts
    middle = below.double() + (counts.double() - 1) / 2
    placed: Tensor = middle[place] - (len(values) - 1) / 2
    return placed


def _cosine(one: Tensor, other: Tensor) -> Tensor:
    """The cosine of the angle between two vectors; 0 where one is 0."""
    length = one.norm() * other.norm()
    return (one @ other / torch.where(length > 0, length, 1)).clamp(-1, 1)


@quietly()
def ssim(one: Tensor, other: Tensor, value_range: float | None = None) -> Scores:
    """The mean structural similarity of two maps, ``(n,)``, from -1 to 1; 1 = the same.

    ``(2 m1 m2 + C1) (2 s12 + C2) / ((m1^2 + m2^2 + C1) (s1^2 + s2^2 + C2))`` with the means,
    variances and covariance of a Gaussian window (11 voxels wide, sigma 1.5), ``C = (K L)^2`` for
    the value range ``L``; averaged over all windows that lie within the map. Along an axis shorter
    than that the window is cut to the largest odd width.

    Source: Wang et al., 2004, "Image Quality Assessment: From Error Visibility to Structural
    Similarity", doi:10.1109/TIP.2003.819861, equation 13.

    Args:
        one: ``(n, 1, *s)``.
        other: ``(n, 1, *s)``.
        value_range: L, of maps that are not negative. None = maps have no unit: each is scaled by
            its largest magnitude first; where a sample's maps have negative values, both are moved
            from -1 .. 1 to 0 .. 1, since the formula takes two means of opposite signs, and a
            negative covariance, for likeness.

    Raises:
        ValueError: when their shapes differ, or the range is not above 0.
    """
    one, other = (wide(each) for each in same_shape(one, other))
    if value_range is not None and not value_range > 0:
        raise ValueError(f"expected a value range above 0, got {value_range!r}")
    if value_range is None:
        one, other = _unitless(one, other)
    c1, c2 = ((k * (value_range or 1.0)) ** 2 for k in (K1, K2))
    products = torch.cat([one, other, one * one, other * other, one * other], 1)
    m1, m2, e11, e22, e12 = torch.split(_windowed(products), 1, 1)
    s11, s22, s12 = e11 - m1 * m1, e22 - m2 * m2, e12 - m1 * m2
    above = (2 * m1 * m2 + c1) * (2 * s12 + c2)
    below = (m1 * m1 + m2 * m2 + c1) * (s11 + s22 + c2)
    return (above / below).flatten(1).mean(1).float()


def _unitless(one: Map, other: Map) -> tuple[Map, Map]:
    """Two maps from 0 to 1: by their largest magnitudes, and moved where one is signed."""
    one, other = _scaled(one), _scaled(other)
    signed = shaped(torch.minimum(one, other).flatten(1).amin(1) < 0, one)
    return torch.where(signed, (one + 1) / 2, one), torch.where(signed, (other + 1) / 2, other)


def _scaled(saliency: Map) -> Map:
    largest = shaped(saliency.abs().flatten(1).amax(1), saliency)
    return saliency / torch.where(largest > 0, largest, 1)


def _windowed(x: Tensor) -> Tensor:
    """Gaussian means over all windows that lie within the grid."""
    convolve = _CONVOLVE[len(spatial(x))]
    rows = x.flatten(0, 1)[:, None]
    for axis in spatial(x):
        width = min(WIDTH, x.shape[axis] - 1 + x.shape[axis] % 2)
        steps = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
        kernel = torch.exp(-0.5 * (steps / SIGMA) ** 2)
        shape = [width if each == axis else 1 for each in range(x.ndim)]
        rows = convolve(rows, (kernel / kernel.sum()).reshape(shape))
    return rows.reshape(*x.shape[:2], *rows.shape[2:])
