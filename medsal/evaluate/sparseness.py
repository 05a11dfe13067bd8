"""How concentrated a map is: a description, not a quality.

Both look at magnitudes. An empty map is concentrated nowhere and counts as a constant one.
"""

import math

import torch
from torch import Tensor

from medsal.evaluate.arguments import checked_map
from medsal.probe import quietly
from medsal.types import Scores


@quietly()
def gini(saliency: Tensor) -> Scores:
    """The Gini index of the magnitudes, ``(n,)``: 0 for a constant map, 1 - 1/N for one voxel.

    ``1 - 2 sum_k (v_k / sum v) (N - k + 1/2) / N`` over the N magnitudes in ascending order.

    Source: Hurley and Rickard, 2009, "Comparing Measures of Sparsity", arXiv:0811.4706; for maps,
    Chalasani et al., 2020, "Concise Explanations of Neural Networks using Adversarial Training",
    arXiv:1810.06583.

    Raises:
        ValueError: when the map has another shape than ``(n, 1, *s)``, or a single voxel.
    """
    values = _shares(saliency).sort(1).values
    count = values.shape[1]
    place = torch.arange(1, count + 1, dtype=values.dtype, device=values.device)
    return (1 - 2 * (values * (count - place + 0.5)).sum(1) / count).float()


@quietly()
def entropy(saliency: Tensor) -> Scores:
    """Shannon's entropy of the magnitudes as shares, ``(n,)``: 1 for a constant map, 0 for a voxel.

    ``- sum_i p_i log p_i / log N`` with ``p_i = |M_i| / sum |M|``.

    Source: Shannon, 1948, "A Mathematical Theory of Communication",
    doi:10.1002/j.1538-7305.1948.tb01338.x.

    Raises:
        ValueError: when the map has another shape than ``(n, 1, *s)``, or a single voxel.
    """
    shares = _shares(saliency)
    most = math.log(shares.shape[1])
    found: Tensor = -torch.special.xlogy(shares, shares).sum(1) / most
    return found.float()


def _shares(saliency: Tensor) -> Tensor:
    """Magnitudes that add up to 1, ``(n, voxels)`` float64."""
    values = checked_map(saliency).double().abs().flatten(1)
    if values.shape[1] < 2:
        raise ValueError("expected a map of two voxels or more, got one")
    values = torch.where(values.amax(1, keepdim=True) > 0, values, 1.0)
    # By the largest first: a sum of magnitudes near 1e-300 would vanish.
    values = values / values.amax(1, keepdim=True)
    return values / values.sum(1, keepdim=True)
