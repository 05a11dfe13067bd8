"""The gradient by the input of a convolution that has few input channels: the first of a network.

Convolutions on a CPU work on 16 channels at a time. Towards a single channel, a scan, they do
16 times the work that is needed, and this one step can take longer than all others together. Here
the voxels of a small block stand as channels: the same sums, in another order.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
# How many channels a block makes, and how many numbers of the gradient are padded at once.
_CHANNELS = 16
_SLAB = 2**24


def is_narrow(weight: Tensor) -> bool:
    """Whether blocks pay for these weights ``(o, c, *kernel)``: few channels, many weights each."""
    return weight.shape[1] <= 4 and weight[0].numel() >= 49 and weight.device.type == "cpu"


def narrow_gradient(
    gradient: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """The gradient by the input ``(n, c, *size)`` from that by the output ``(n, o, *f)``.

    Args:
        gradient: by the output.
        weight: ``(o, c, *kernel)``; neither groups nor dilation.
        size: voxels of the input along each axis.
        stride: of the convolution along each axis.
        padding: of the convolution along each axis, with zeros.
    """
    block = _block(weight.shape[1], stride)
    reach = [
        (-((k - 1 - p) // s), (b - 1 + p) // s)
        for k, p, s, b in zip(weight.shape[2:], padding, stride, block, strict=True)
    ]
    blocks = _by_block(weight, block, reach, stride, padding)
    step = [b // s for b, s in zip(block, stride, strict=True)]
    count = [-(-voxels // b) for voxels, b in zip(size, block, strict=True)]
    result = gradient.new_empty(len(gradient), weight.shape[1], *size)
    rows = max(1, _SLAB // (gradient[:, :, 0].numel() * step[0]))
    for start in range(0, count[0], rows):
        stop = min(start + rows, count[0])
        ranges = [(start, stop), *((0, each) for each in count[1:])]
        needed = [
            (a * m + low, (z - 1) * m + high + 1)
            for (a, z), m, (low, high) in zip(ranges, step, reach, strict=True)
        ]
        found = _CONVOLUTIONS[len(size) - 1](_cut(gradient, needed), blocks, stride=step)
        voxels = _voxels(found, block)
        first, last = start * block[0], min(stop * block[0], size[0])
        inside: Any = (..., slice(last - first), *(slice(each) for each in size[1:]))
        result[:, :, first:last] = voxels[inside]
    return result


def _block(channels: int, stride: Sequence[int]) -> list[int]:
    """The voxels along each axis that make enough channels, a multiple of the stride."""
    block = list(stride)
    while channels * math.prod(block) < _CHANNELS:
        shortest = min(range(len(block)), key=lambda i: (block[i] // stride[i], -i))
        block[shortest] *= 2
    return block


def _by_block(
    weight: Tensor,
    block: Sequence[int],
    reach: Sequence[tuple[int, int]],
    stride: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """The weights from cells to the voxels of a block, ``(block voxels * c, o, *cells)``."""
    axes = len(block)
    w = weight.transpose(0, 1)
    for b, s, p, k, (low, high) in zip(
        block, stride, padding, weight.shape[2:], reach, strict=True
    ):
        # Voxel r of the block meets the cell j through the weight r + p - s j.
        tap = torch.arange(b)[:, None] + p - s * torch.arange(low, high + 1)
        w = torch.tensordot(w, (tap[..., None] == torch.arange(k)).to(w), ([2], [2]))
    w = w.permute(*range(2, w.ndim, 2), 0, 1, *range(3, w.ndim, 2))
    return w.reshape(-1, *w.shape[axes + 1 :])


def _cut(x: Tensor, ranges: Sequence[tuple[int, int]]) -> Tensor:
    """A part of the grid; what lies outside is 0."""
    sides = [
        side
        for (start, stop), cells in zip(ranges, x.shape[2:], strict=True)
        for side in (stop - cells, -start)
    ]
    return F.pad(x, sides[::-1])


def _voxels(found: Tensor, block: Sequence[int]) -> Tensor:
    """From ``(n, block voxels * c, *count)`` to ``(n, c, *voxels)``."""
    axes = len(block)
    shape = [cells * b for cells, b in zip(found.shape[2:], block, strict=True)]
    apart = found.reshape(len(found), *block, -1, *found.shape[2:])
    order = [each for i in range(axes) for each in (2 + axes + i, 1 + i)]
    apart = apart.permute(0, 1 + axes, *order)
    return apart.reshape(*apart.shape[:2], *shape)
