"""How far a map is from the truth, and how sure one can be of a mean over cases and networks."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from medsal import Probe
from medsal.evaluate import (
    auprc,
    best_dice,
    centroid_offset,
    deletion,
    dice,
    energy_pointing_game,
    insertion,
    peak_distance,
    pointing_game,
)
from medsal.targets import ClassScore
from tests.benchmarks.truth.scenes import MM

#: The centroid is that of what lies above this share of the map's largest value.
ABOVE = 0.5


def place(saliency: Tensor, mask: Tensor, mm: float = MM) -> dict[str, float]:
    """Where a map lies beside a lesion, both `(1, 1, *s)` [mm], on voxels of `mm`."""
    space = (mm,) * (mask.ndim - 2)
    offset = centroid_offset(saliency, mask, space, ABOVE)[0]
    return {
        "peak": float(peak_distance(saliency, mask, space, to="centre")),
        "centroid": float(offset.norm()),
        "x": float(offset[0]),
        "y": float(offset[1]),
        "z": float(offset[2]),
        "hit": float(pointing_game(saliency, mask)),
        "energy": float(energy_pointing_game(saliency, mask)),
        "auprc": float(auprc(saliency, mask)),
    }


def overlap(saliency: Tensor, mask: Tensor) -> dict[str, float]:
    """Dice at the best threshold, which knows the lesion, and at half of the largest value."""
    return {"best dice": float(best_dice(saliency, mask)), "dice": float(dice(saliency, mask, 0.5))}


def faithfulness(
    net: nn.Module, image: Tensor, saliency: Tensor, label: int, activation: str
) -> dict[str, float]:
    """The areas under the class's probability; blocks of 4 voxels, the blurred image as empty."""
    probe = Probe(net, ClassScore(label, activation=activation))
    options = {"baseline": "blur", "steps": 12, "block": 4}
    return {
        "insertion": float(insertion(probe, image, saliency, **options).auc),
        "deletion": float(deletion(probe, image, saliency, **options).auc),
    }


def discrimination(maps: Tensor, masks: Tensor, kinds: Sequence[int]) -> float:
    """Of what two classes' maps put into each lesion, the share of its own class's map.

    Args:
        maps: `(1, 2, *s)`, of the two classes.
        masks: `(2, *s)`.
        kinds: of the lesions.
    """
    shares = []
    for mask, kind in zip(masks, kinds, strict=True):
        own, other = (float(maps[0, k].clamp(min=0)[mask].sum()) for k in (kind, 1 - kind))
        shares.append(own / (own + other) if own + other > 0 else 0.5)
    return sum(shares) / len(shares)


Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From one network's cases, `(draws, cases, columns)`, to a number for each draw."""


def mean(cases: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cases.mean((1, 2)))


def bias(cases: NDArray[np.float64]) -> NDArray[np.float64]:
    """The magnitude of the mean offset along each axis (a column), averaged over axes."""
    return np.asarray(np.abs(cases.mean(1)).mean(1))


def interval(
    groups: Sequence[NDArray[np.float64]], statistic: Statistic = mean, draws: int = 1000
) -> tuple[float, float, float]:
    """The mean over networks with its 95 % interval.

    The bootstrap draws networks, then the cases of each one.

    Args:
        groups: of each network, its cases, `(cases, columns)`.
        statistic: of one network.
        draws: of the bootstrap.
    """
    g = np.random.default_rng(0)
    drawn = [statistic(each[g.integers(len(each), size=(draws, len(each)))]) for each in groups]
    # A network that is drawn twice has its cases drawn twice.
    chosen = g.integers(len(groups), size=(draws, len(groups)))
    means = np.stack(drawn)[chosen, g.integers(draws, size=chosen.shape)].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.mean([statistic(each[None])[0] for each in groups])), float(low), float(high)
