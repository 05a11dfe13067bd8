"""How well a map, cut at thresholds, covers a mask and nothing else.

As in `localisation`, a map without a positive value counts as a constant one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsal.evaluate.arguments import checked_map
from medsal.evaluate.masks import by_value, checked_mask, evidence_and_mask
from medsal.probe import quietly
from medsal.types import Scores

THRESHOLDS = tuple(i / 20 for i in range(1, 20))


@dataclass(frozen=True, eq=False)
class Overlap:
    """Dice and intersection over union at several thresholds.

    Attributes:
        thresholds: as shares of each map's largest value, ``(m,)``.
        dice: ``(n, m)``.
        iou: ``(n, m)``.
    """

    thresholds: Tensor
    dice: Tensor
    iou: Tensor


@quietly()
def overlap(saliency: Tensor, mask: Tensor, thresholds: Sequence[float] = THRESHOLDS) -> Overlap:
    """Dice ``2 |A B| / (|A| + |B|)`` and IoU ``|A B| / |A or B|`` of the cut map A and the mask B.

    At a threshold, the voxels count whose value is that share of the map's largest one or more.

    Source: Dice, 1945, "Measures of the Amount of Ecologic Association Between Species",
    doi:10.2307/1932409; Jaccard, 1912, doi:10.1111/j.1469-8137.1912.tb05611.x.

    Args:
        saliency: ``(n, 1, *s)``.
        mask: ``(n, 1, *s)``, with a voxel set in each sample.
        thresholds: shares of the map's largest value, above 0 to 1.

    Raises:
        ValueError: when shapes do not fit, a mask is empty, or a threshold is no share.
    """
    evidence, found = evidence_and_mask(saliency, mask)
    if not thresholds:
        raise ValueError("expected at least one threshold, got none")
    for each in thresholds:
        if not 0 < each <= 1:
            raise ValueError(f"expected thresholds above 0 and at most 1, got {each!r}")
    values, inside = evidence.flatten(1), found.flatten(1)
    largest = values.amax(1, keepdim=True)
    dice, iou = [], []
    for each in thresholds:
        kept = values >= each * largest
        both = (kept & inside).sum(1).double()
        sizes = kept.sum(1) + inside.sum(1)
        dice.append(2 * both / sizes)
        iou.append(both / (sizes - both))
    shares = torch.tensor(thresholds, dtype=torch.float32, device=values.device)
    return Overlap(shares, torch.stack(dice, 1).float(), torch.stack(iou, 1).float())


def dice(saliency: Tensor, mask: Tensor, threshold: float = 0.5) -> Scores:
    """Dice of the map cut at one threshold, a share of its largest value; see `overlap`."""
    return overlap(saliency, mask, (threshold,)).dice[:, 0]


def iou(saliency: Tensor, mask: Tensor, threshold: float = 0.5) -> Scores:
    """Intersection over union of the map cut at one threshold; see `overlap`."""
    return overlap(saliency, mask, (threshold,)).iou[:, 0]


@quietly()
def best_dice(saliency: Tensor, mask: Tensor) -> Scores:
    """The largest Dice at any threshold above 0, of all the values in the map, ``(n,)``.

    It knows the mask: an upper bound for comparisons, not what a user would get.

    Raises:
        ValueError: when shapes do not fit, or a mask is empty.
    """
    evidence, found = evidence_and_mask(saliency, mask)
    best = []
    for each, inside in zip(evidence.flatten(1), found.flatten(1), strict=True):
        hits, taken, values = by_value(each, inside)
        best.append((2 * hits / (taken + inside.sum()))[values > 0].amax())
    return torch.stack(best).float()


@quietly()
def auprc(saliency: Tensor, mask: Tensor) -> Scores:
    """The area under the voxels' precision-recall curve, as average precision, ``(n,)``.

    ``sum_k (R_k - R_(k-1)) P_k`` over the map's distinct values from the largest down, without
    interpolation: precision interpolated linearly would be too good (Davis and Goadrich, 2006,
    doi:10.1145/1143844.1143874). Negative values rank below positive ones. A constant map gets the
    mask's share of the voxels.

    Raises:
        ValueError: when shapes do not fit, or a mask is empty.
    """
    values, found = checked_map(saliency), checked_mask(mask, saliency)
    areas = []
    for each, inside in zip(values.flatten(1), found.flatten(1), strict=True):
        hits, taken, _ = by_value(each, inside)
        gained = hits.diff(prepend=hits.new_zeros(1))
        areas.append((gained * hits / taken).sum() / inside.sum())
    return torch.stack(areas).float()
