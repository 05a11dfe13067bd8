"""A map as evidence, and the mask that it is held against."""

import torch
from torch import Tensor

from medsal.evaluate.arguments import checked_map, shaped
from medsal.probe import plain
from medsal.types import Map, Mask


def evidence_and_mask(saliency: Tensor, mask: Tensor) -> tuple[Map, Mask]:
    """The map's positive part and the mask, both checked."""
    return positive(checked_map(saliency)), checked_mask(mask, saliency)


def checked_mask(mask: Tensor, saliency: Tensor) -> Mask:
    """A mask on the map's grid, as bool.

    Raises:
        TypeError: when it is no tensor.
        ValueError: when its shape is another, it holds other numbers than 0 and 1, or no voxel of a
            sample is set.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"expected a mask as a tensor, got {type(mask).__name__}")
    if mask.shape != saliency.shape:
        raise ValueError(
            f"expected a mask of the map's shape {tuple(saliency.shape)}, got {tuple(mask.shape)}"
        )
    mask = plain(mask).to(saliency.device)
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            "expected a mask of 0 and 1, or of bool; of several labels take one: mask == label"
        )
    empty = (~mask.bool().flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"expected a mask with a voxel set in each sample; it is empty in {empty}")
    return mask.bool()


def positive(saliency: Map) -> Map:
    """The positive part, in float64; 1 everywhere where there is none."""
    part = saliency.double().relu()
    some = shaped(part.flatten(1).amax(1) > 0, part)
    return torch.where(some, part, 1.0)


def by_value(values: Tensor, inside: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each distinct value, from the largest: voxels of the mask that reach it, and all voxels.

    Returns:
        Both counts, and the values, each ``(m,)``; the counts in float64.
    """
    values, order = values.sort(descending=True)
    last = torch.cat([values[1:] != values[:-1], values.new_ones(1, dtype=torch.bool)])
    taken = torch.arange(1, len(values) + 1, dtype=torch.float64, device=values.device)
    return inside[order].double().cumsum(0)[last], taken[last], values[last]
