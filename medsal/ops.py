"""Maths that ignores how many spatial axes there are."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medsal.types import Features, Weights

# From how many numbers on a map is large, and how many of it are interpolated at once.
_LARGE, _PART = 2**19, 2**15
INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def spatial(x: Tensor) -> tuple[int, ...]:
    """The spatial axes of ``(n, k, *s)``, to reduce over: ``(2, ...)``."""
    return tuple(range(2, x.ndim))


def spatial_mean(x: Features) -> Weights:
    """The mean over all spatial axes, kept as axes of size 1: ``(n, k, 1, ...)``."""
    return x.mean(spatial(x), keepdim=True)


def resize(x: Tensor, size: Sequence[int], shift: Sequence[float] | None = None) -> Tensor:
    """Linear, bilinear or trilinear interpolation onto a grid.

    Args:
        x: ``(n, k, *f)``.
        size: voxels along each spatial axis.
        shift: how far the result is moved towards higher indices along each axis [voxels of
            ``size``]; what comes in at the border is the border's own value.

    Returns:
        ``(n, k, *size)``: both grids span the same extent (``align_corners=False``), so a cell's
        value sits at the cell's centre, moved by ``shift``.

    Raises:
        ValueError: when ``size`` or ``shift`` has another number of axes than ``x``, or not 1 to 3.
    """
    axes = x.ndim - 2
    if axes != len(size) or axes not in INTERPOLATION:
        raise ValueError(
            f"expected features with {len(size)} spatial axes (1 to 3) for the grid {tuple(size)}, "
            f"got the shape {tuple(x.shape)}"
        )
    if shift is not None and len(shift) != axes:
        raise ValueError(
            f"expected a shift of {axes} numbers, one for each axis, got {tuple(shift)}"
        )
    # Interpolation in half precision is coarse, and missing on some devices.
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    large = x.shape[:2].numel() * math.prod(size) >= _LARGE
    # On a CPU, torch's trilinear interpolation takes several times as long as one along each axis.
    quicker = axes == 3 and large and x.device.type == "cpu"
    if not quicker and not any(shift or ()):
        return F.interpolate(wide, size=tuple(size), mode=INTERPOLATION[axes], align_corners=False)
    # The last axis first: the larger the tensor, the longer its rows are.
    for axis, voxels, offset in [*zip(spatial(x), size, shift or (0.0,) * axes, strict=True)][::-1]:
        wide = _resampled(wide, axis, voxels, offset)
    return wide


def _resampled(x: Tensor, axis: int, voxels: int, shift: float) -> Tensor:
    """Linear interpolation along one axis, the result moved by ``shift`` voxels."""
    cells = x.shape[axis]
    voxel = torch.arange(voxels, dtype=x.dtype, device=x.device)
    place = ((voxel - shift + 0.5) * (cells / voxels) - 0.5).clamp(0, cells - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=cells - 1)
    share = (place - low).reshape(-1, *(1 for _ in range(x.ndim - axis - 1)))
    found = x.new_empty(*x.shape[:axis], voxels, *x.shape[axis + 1 :])
    # On a CPU part by part, and what is between stays small; elsewhere many calls take longer.
    part = _PART if x.device.type == "cpu" else found.numel()
    count = max(1, part * voxels // max(1, found.numel()))
    for start in range(0, voxels, count):
        here = slice(start, start + count)
        below, above = (x.index_select(axis, each[here]) for each in (low, high))
        found.narrow(axis, start, below.shape[axis]).copy_(below.lerp_(above, share[here]))
    return found


def smooth(x: Tensor, sigma: Sequence[float]) -> Tensor:
    """Gaussian smoothing along each spatial axis; the border is continued by its own value.

    Args:
        x: ``(n, k, *s)``.
        sigma: the Gaussian's standard deviation along each axis [voxels]; cut off at 3 of them.
    """
    for axis, width in zip(spatial(x), sigma, strict=True):
        reach = math.ceil(3 * width)
        if reach == 0:
            continue
        steps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
        kernel = torch.exp(-0.5 * (steps / width) ** 2)
        rows = x.movedim(axis, -1)
        padded = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (reach, reach), mode="replicate")
        blurred = F.conv1d(padded, (kernel / kernel.sum())[None, None])
        x = blurred.reshape(rows.shape).movedim(-1, axis)
    return x
