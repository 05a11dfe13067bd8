"""Filling in voxels from those around them that are left: what ROAD removes voxels with."""

from typing import Literal

import torch
from torch import Tensor

from medsal.evaluate.arguments import check_choice, shaped
from medsal.methods.many import wide
from medsal.ops import spatial
from medsal.probe import plain, quietly
from medsal.types import Image

Neighbours = Literal["all", "faces"]
# The residual's size, against the right-hand side's, at which the system counts as solved.
_SOLVED = 1e-5
_ITERATIONS = 1000


@quietly()
def impute(
    image: Image,
    missing: Tensor,
    *,
    neighbours: Neighbours = "all",
    noise: float | int = 0.0,
    seed: int = 0,
) -> Image:
    """The image with its missing voxels filled in: each is the weighted mean of its neighbours.

    ``sum_j w_ij (x_i - x_j) = 0`` for each missing voxel i over its neighbours j, missing or not:
    one sparse linear system for all of them, solved by conjugate gradients on the image's device.
    Neighbours beyond the border do not count. Where nothing is left, the channel's mean.

    In 2D the weights are the paper's, 1/6 for the four direct neighbours and 1/12 for the four
    diagonal ones: those of the outer product of (1, 2, 1) with itself, less its centre. The same
    product in 3D gives 4 : 2 : 1 for the 6 neighbours across faces, 12 across edges and 8 across
    corners.

    Source: Rong et al., 2022, "A Consistent and Efficient Evaluation Strategy for Attribution
    Methods", arXiv:2202.00449, section 4.2.

    Args:
        image: ``(n, c, *s)``.
        missing: ``(n, 1, *s)`` bool.
        neighbours: ``"all"`` (2, 8 or 26) or ``"faces"`` (2, 4 or 6, of equal weight).
        noise: standard deviation of the normal noise on what was filled in, as a share of the
            sample's value range; the paper's code has 0.01 for images from 0 to 1. Every sample
            sees the same normal numbers.
        seed: of the noise.

    Raises:
        ValueError: when shapes do not fit, or an option is out of its range.
    """
    check_choice("neighbours", neighbours, ("all", "faces"))
    if not noise >= 0:
        raise ValueError(f"expected noise as a share of the value range, got {noise!r}")
    expected = (len(image), 1, *image.shape[2:])
    if tuple(missing.shape) != expected or missing.dtype != torch.bool:
        raise ValueError(
            f"expected missing voxels as bool of the shape {expected}, got {missing.dtype} of "
            f"{tuple(missing.shape)}"
        )
    image, missing = plain(image), plain(missing)
    filled = _solved(wide(image), missing, neighbours)
    if noise:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(image.shape[1:], generator=generator).to(filled)
        low, high = image.flatten(1).aminmax(dim=1)
        filled = filled + noise * shaped(wide(high - low), image) * drawn
    return torch.where(missing, filled.to(image.dtype), image)


def _solved(image: Image, missing: Tensor, neighbours: Neighbours) -> Image:
    """Conjugate gradients, preconditioned by the diagonal, for each sample and channel at once."""
    known = (~missing).to(image)
    degree = _neighbour_sum(torch.ones_like(image[:1, :1]), neighbours)
    # What is left has its mean taken off: an offset of the image costs no accuracy.
    mean = _mean_of_known(image, known)
    right = _neighbour_sum((image - mean) * known, neighbours) * missing
    x = torch.zeros_like(image)
    residual, enough = right.clone(), _SOLVED * _norm(right)
    scaled = residual / degree
    direction, energy = scaled, _dot(residual, scaled)
    for _ in range(_ITERATIONS):
        if bool((_norm(residual) <= enough).all()):
            break
        image_of = (degree * direction - _neighbour_sum(direction, neighbours)) * missing
        step = _ratio(energy, _dot(direction, image_of))
        x = x + step * direction
        residual = residual - step * image_of
        scaled = residual / degree
        energy, before = _dot(residual, scaled), energy
        direction = scaled + _ratio(energy, before) * direction
    return x + mean


def _mean_of_known(image: Image, known: Tensor) -> Tensor:
    axes = spatial(image)
    count = known.sum(axes, keepdim=True)
    mean = (image * known).sum(axes, keepdim=True) / count.clamp(min=1)
    return torch.where(count > 0, mean, image.mean(axes, keepdim=True))


def _neighbour_sum(x: Tensor, neighbours: Neighbours) -> Tensor:
    """The weighted sum over each voxel's neighbours; those beyond the border are 0."""
    if neighbours == "faces":
        total = torch.zeros_like(x)
        for axis in spatial(x):
            total += _beside(x, axis)
        return total
    product = x
    for axis in spatial(x):
        product = 2 * product + _beside(product, axis)
    own: int = 2 ** len(spatial(x))
    return product - own * x


def _beside(x: Tensor, axis: int) -> Tensor:
    """The sum of the two neighbours along an axis."""
    beside = torch.zeros_like(x)
    inner = x.shape[axis] - 1
    beside.narrow(axis, 1, inner).add_(x.narrow(axis, 0, inner))
    beside.narrow(axis, 0, inner).add_(x.narrow(axis, 1, inner))
    return beside


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(spatial(one), keepdim=True)


def _norm(x: Tensor) -> Tensor:
    return _dot(x, x).sqrt()


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """A quotient; 0 where there is nothing left to divide by."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1), 0)
