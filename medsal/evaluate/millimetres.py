"""Distances in mm on any grid: anisotropic, oblique, sheared."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medsal.ops import spatial

# Rounding of affines in float32, at the size of a patient [mm].
SLACK = 1e-4
# How many distances are in memory at once.
_AT_ONCE = 1 << 22
_DILATE = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def steps_of(space: Sequence[float | int] | Tensor | None, like: Tensor) -> Tensor:
    """What a step of one voxel along each axis is [mm], ``(n, r, d)`` float64.

    Args:
        space: the voxel's size along each of the d axes, for lengths along these axes (r = d); or
            an affine ``(4, 4)`` or ``(n, 4, 4)`` from voxels to RAS mm (r = 3); None = voxels.
        like: ``(n, k, *s)``.

    Raises:
        ValueError: for another shape, or lengths that are not positive.
    """
    samples, axes = len(like), like.ndim - 2
    if space is None:
        space = [1.0] * axes
    given = torch.as_tensor(space).detach().as_subclass(Tensor).double().cpu()
    if given.shape == (axes,):
        if not bool((given > 0).all()) or not bool(given.isfinite().all()):
            raise ValueError(f"expected voxel sizes above 0 [mm], got {given.tolist()}")
        return given.diag().expand(samples, axes, axes)
    if given.shape[-2:] == (4, 4) and (given.ndim == 2 or given.shape[:-2] == (samples,)):
        steps = given[..., :3, :axes]
        if not bool((torch.linalg.matrix_rank(steps) == axes).all()):
            raise ValueError(f"expected an affine that can be inverted, got {given.tolist()}")
        return steps.expand(samples, 3, axes)
    raise ValueError(
        f"expected a voxel size for each of {axes} axes, or an affine (4, 4) or ({samples}, 4, 4), "
        f"got the shape {tuple(given.shape)}"
    )


def surface(mask: Tensor) -> Tensor:
    """The voxels of a mask ``(n, 1, *s)`` with one of the voxels around them outside it.

    From any voxel outside, the nearest one of the mask is among them.
    """
    outside = (~mask).float()
    near = _DILATE[len(spatial(mask))](outside, 3, stride=1, padding=1) > 0
    return mask & near


def to_nearest(points: Tensor, others: Tensor, steps: Tensor) -> Tensor:
    """How far each point is from the nearest of others [mm].

    Args:
        points: voxels ``(m, d)``.
        others: voxels ``(k, d)``, at least one.
        steps: ``(r, d)``.
    """
    away, there = points.double().cpu() @ steps.T, others.double().cpu() @ steps.T
    count = max(1, _AT_ONCE // len(there))
    return torch.cat([torch.cdist(each, there).amin(1) for each in torch.split(away, count)])
