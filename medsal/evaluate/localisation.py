"""Is the map in the right place? A map against the mask of what is to be found.

Each takes a map ``(n, 1, *s)`` and a mask ``(n, 1, *s)``, and gives a number per sample. Only the
positive part of a map is evidence for a target; where a map has none, it says nothing of where, and
counts as a constant one: it gets what chance gets. A largest value that several voxels share (to a
millionth) is the peak at all of them, and what is said of it is the mean.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medsal.evaluate.arguments import check_choice, check_share, shaped
from medsal.evaluate.masks import evidence_and_mask
from medsal.evaluate.millimetres import SLACK, steps_of, surface, to_nearest
from medsal.probe import quietly
from medsal.types import Map, Mask, Scores

Space = Sequence[float | int] | Tensor | None
"""Voxel sizes [mm], one per axis; or an affine from voxels to RAS mm, ``(4, 4)`` or ``(n, 4, 4)``;
None = lengths in voxels."""

_TIED = 1e-6


@quietly()
def pointing_game(
    saliency: Tensor, mask: Tensor, tolerance: float | int = 0, space: Space = None
) -> Scores:
    """Whether the map's peak is in the mask, or near it: 1 = hit, 0 = miss, ``(n,)``.

    Of a peak at several voxels, the share of them that hit: a constant map gets the share of voxels
    that are in reach.

    Source: Zhang et al., 2016, "Top-down Neural Attention by Excitation Backprop",
    arXiv:1608.00507; there with a tolerance of 15 pixels.

    Args:
        saliency: ``(n, 1, *s)``.
        mask: ``(n, 1, *s)``, with a voxel set in each sample.
        tolerance: how far from the nearest voxel of the mask still counts as a hit [mm; voxels
            without ``space``].
        space: the grid's voxel sizes or affine.

    Raises:
        ValueError: when shapes do not fit, a mask is empty, or the tolerance is negative.
    """
    evidence, found = evidence_and_mask(saliency, mask)
    if not tolerance >= 0:
        raise ValueError(f"expected a tolerance of 0 or more [mm], got {tolerance!r}")
    away = _from_mask(evidence, found, space)
    return torch.stack([(each <= tolerance + SLACK).double().mean() for each in away]).float()


@quietly()
def peak_distance(
    saliency: Tensor, mask: Tensor, space: Space = None, to: Literal["mask", "centre"] = "mask"
) -> Scores:
    """How far the map's peak is from what is to be found [mm; voxels without ``space``], ``(n,)``.

    Args:
        saliency: ``(n, 1, *s)``.
        mask: ``(n, 1, *s)``, with a voxel set in each sample.
        space: the grid's voxel sizes or affine.
        to: ``"mask"``, its nearest voxel: 0 inside; or ``"centre"``, the centroid of its voxels.

    Raises:
        ValueError: when shapes do not fit, or a mask is empty.
    """
    evidence, found = evidence_and_mask(saliency, mask)
    check_choice("to", to, ("mask", "centre"))
    if to == "mask":
        return torch.stack([each.mean() for each in _from_mask(evidence, found, space)]).float()
    steps = steps_of(space, evidence)
    centres = _centroid(found.double())
    peaks = [each.nonzero().double().cpu() for each in _peaks(evidence)[:, 0]]
    away = [
        ((points - centre) @ step.T).norm(dim=1).mean()
        for points, centre, step in zip(peaks, centres, steps, strict=True)
    ]
    return torch.stack(away).float()


@quietly()
def centroid_offset(
    saliency: Tensor, mask: Tensor, space: Space = None, above: float = 0.0
) -> Tensor:
    """From the mask's centroid to the map's: the map's bias, with its sign.

    Args:
        saliency: ``(n, 1, *s)``.
        mask: ``(n, 1, *s)``, with a voxel set in each sample.
        space: the grid's voxel sizes or affine.
        above: only values above this share of the map's largest count. A faint value everywhere
            draws the centroid to the middle of the grid.

    Returns:
        ``(n, d)`` along the grid's axes [mm; voxels without ``space``]; with an affine, ``(n, 3)``
        along R, A and S [mm].

    Raises:
        ValueError: when shapes do not fit, a mask is empty, or ``above`` is no share.
    """
    evidence, found = evidence_and_mask(saliency, mask)
    check_share("above", above)
    largest = _largest(evidence)
    kept = torch.where(evidence >= above * largest, evidence, 0)
    voxels = _centroid(kept) - _centroid(found.double())
    return (steps_of(space, evidence) @ voxels[..., None])[..., 0].float()


def centroid_distance(
    saliency: Tensor, mask: Tensor, space: Space = None, above: float = 0.0
) -> Scores:
    """The length of `centroid_offset`, ``(n,)``."""
    return centroid_offset(saliency, mask, space, above).square().sum(1).sqrt()


@quietly()
def energy_pointing_game(saliency: Tensor, mask: Tensor) -> Scores:
    """The share of the map's positive sum that lies in the mask, ``(n,)``.

    ``sum_(i in mask) relu(M_i) / sum_i relu(M_i)``; a constant map gets the mask's share of the
    voxels.

    Source: Wang et al., 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional
    Neural Networks", arXiv:1910.01279, "energy-based pointing game".

    Raises:
        ValueError: when shapes do not fit, or a mask is empty.
    """
    evidence, found = evidence_and_mask(saliency, mask)
    inside = torch.where(found, evidence, 0).flatten(1).sum(1)
    return (inside / evidence.flatten(1).sum(1)).float()


def _peaks(evidence: Map) -> Mask:
    """Where a map is largest."""
    return evidence >= _largest(evidence) * (1 - _TIED)


def _largest(evidence: Map) -> Tensor:
    return shaped(evidence.flatten(1).amax(1), evidence)


def _from_mask(evidence: Map, mask: Mask, space: Space) -> list[Tensor]:
    """For each sample, how far each voxel of the peak is from the mask; 0 inside."""
    rims = surface(mask)
    away = []
    for peak, inside, rim, steps in zip(
        _peaks(evidence)[:, 0], mask[:, 0], rims[:, 0], steps_of(space, evidence), strict=True
    ):
        outside = (peak & ~inside).nonzero()
        hits = torch.zeros(int((peak & inside).sum()), dtype=torch.float64)
        missed = to_nearest(outside, rim.nonzero(), steps) if len(outside) else hits[:0]
        away.append(torch.cat([hits, missed]))
    return away


def _centroid(weights: Tensor) -> Tensor:
    """The centre of mass, ``(n, d)`` voxels."""
    total = weights.flatten(1).sum(1)
    axes = range(2, weights.ndim)
    parts = []
    for axis in axes:
        along = weights.sum([each for each in range(1, weights.ndim) if each != axis])
        index = torch.arange(weights.shape[axis], dtype=weights.dtype, device=weights.device)
        parts.append((along * index).sum(1) / total)
    return torch.stack(parts, 1).cpu()
