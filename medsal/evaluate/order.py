"""In which order a map hands over the image: by voxels, or by blocks of them."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medsal.methods.many import check_count
from medsal.types import Map

Block = int | Sequence[int]
_MEANS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class Order:
    """The place of each voxel when the map's largest values come first.

    Equal values, as of a rectified map's zeros, are put in a random order: by their index, one
    corner of the image would go first.

    Args:
        saliency: ``(n, 1, *s)``.
        block: voxels along each axis, or one number for all, that are taken together by the mean
            of their values; blocks are cut off at the far end.
        seed: of the order of equal values.

    Raises:
        ValueError: for a block that is no whole number of voxels, one or one per axis.
    """

    def __init__(self, saliency: Map, block: Block = 1, seed: int = 0) -> None:
        self.size = saliency.shape[2:]
        self.block = _on_axes(block, len(self.size))
        means = _MEANS[len(self.size)](saliency, self.block, self.block, 0, ceil_mode=True)
        self.blocks = means.shape[2:]
        self.units = int(means[0].numel())
        shuffled = torch.randperm(self.units, generator=torch.Generator().manual_seed(seed))
        shuffled = shuffled.to(saliency.device)
        sorting = means.flatten(1)[:, shuffled].argsort(stable=True, dim=1, descending=True)
        places = torch.arange(self.units, device=saliency.device).expand_as(sorting)
        self.places = torch.empty_like(places).scatter_(1, shuffled[sorting], places)

    def counts(self, steps: int) -> list[int]:
        """How many units are taken after each step, from none to all; at most one step per unit."""
        check_count("steps", steps)
        steps = min(steps, self.units)
        return [round(i * self.units / steps) for i in range(steps + 1)]

    def first(self, count: int) -> Tensor:
        """The voxels of the first ``count`` units, ``(n, 1, *s)`` bool."""
        return self._on_voxels(self.places < count)

    def last(self, count: int) -> Tensor:
        """The voxels of the last ``count`` units, ``(n, 1, *s)`` bool."""
        return self._on_voxels(self.places >= self.units - count)

    def _on_voxels(self, taken: Tensor) -> Tensor:
        taken = taken.reshape(len(taken), 1, *self.blocks)
        for axis, width in enumerate(self.block, 2):
            if width > 1:
                taken = taken.repeat_interleave(width, axis)
        voxels: Any = (..., *(slice(size) for size in self.size))
        return taken[voxels]


def _on_axes(block: Block, axes: int) -> list[int]:
    widths = [block] * axes if isinstance(block, int) else list(block)
    if len(widths) != axes:
        raise ValueError(f"expected one block size or {axes} (one per axis), got {tuple(widths)}")
    for each in widths:
        check_count("block", each)
    return widths
