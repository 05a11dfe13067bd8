"""The trials of a check: what is done to the network, the question and the image."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor

from medsal.evaluate.faithfulness import Asked, Curve, read
from medsal.evaluate.sanity import randomised_maps
from medsal.evaluate.similarity import Similarity, rank_correlation, similarity, stacked
from medsal.methods import Explainer, maps_of
from medsal.ops import spatial
from medsal.outputs import class_logits, two_sided
from medsal.probe import Probe, quietly
from medsal.targets import ClassScore
from medsal.types import Image, Map

Step = Callable[[], None]
# Voxels enough to compare maps by.
_ENOUGH = 150_000
# Student's t, one-sided 95 %, for 1 to 10 degrees of freedom.
_T = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
# How many other classes are asked for: those that come closest.
_OTHERS = 3


@dataclass(frozen=True, eq=False)
class Cascade:
    """The map while the network loses its weights from the output down.

    Attributes:
        layers: what was randomised at each step.
        similarity: to the map of the network as it is, ``(repeats, steps)``.
        maps: after each step, of the first repeat.
    """

    layers: tuple[tuple[str, ...], ...]
    similarity: Similarity
    maps: tuple[Map, ...]

    @property
    def alike(self) -> Tensor:
        """The larger rank correlation, with or without the sign: mean over the repeats, ``(m,)``.

        A map that turned its sign alone still shows the same places.
        """
        return _larger(self.similarity).mean(0)

    @property
    def accident(self) -> Tensor:
        """What the mean reaches by the accident of these draws, were it 0: 95 of 100, ``(m,)``.

        The one-sided quantile of Student's t times the standard error. Maps of random networks are
        like a map, or unlike it, each in its own way; those of a method that ignores the weights
        all in the same.
        """
        found = _larger(self.similarity)
        quantile = _T[min(len(found) - 1, len(_T)) - 1]
        error: Tensor = found.std(0) / len(found) ** 0.5
        return quantile * error


def cascade(
    probe: Probe, image: Image, method: Explainer, whole: Map, steps: int, seeds: list[int]
) -> Cascade:
    """One sample's map under cascading randomisation, for several draws of the weights."""
    rows: list[Similarity] = []
    kept: list[Map] = []
    layers: list[tuple[str, ...]] = []
    for seed in seeds:
        found = list(randomised_maps(probe, image, method, steps=steps, seed=seed))
        layers = [names for names, _ in found]
        kept = kept or [saliency for _, saliency in found]
        rows.append(stacked([similarity(thin(whole), thin(saliency)) for _, saliency in found]))
    joined = (torch.cat(each) for each in zip(*(row.values for row in rows), strict=True))
    return Cascade(tuple(layers), Similarity(*joined), tuple(kept))


def thin(saliency: Map) -> Map:
    """Every second voxel along each axis of a large map, or every third...: it compares alike."""
    every = max(1, ceil((saliency[0].numel() / _ENOUGH) ** (1 / len(spatial(saliency)))))
    steps: Any = (..., *(slice(None, None, every) for _ in spatial(saliency)))
    return saliency[steps]


def by_chance(whole: Map, random: list[Map]) -> tuple[float, float]:
    """The mean and the standard deviation of how alike random maps are to a map."""
    found = [float(_larger(similarity(thin(whole), thin(each)))) for each in random]
    numbers = torch.tensor(found, dtype=torch.float64)
    return float(numbers.mean()), float(numbers.std(correction=min(1, len(found) - 1)))


def _larger(found: Similarity) -> Tensor:
    return torch.maximum(found.rank, found.magnitude)


@dataclass(frozen=True, eq=False)
class Others:
    """The maps of other classes.

    Attributes:
        classes: which ones, those that the network prefers first.
        maps: one of each.
        rank: how alike they are to the map of the target.
    """

    classes: tuple[int, ...]
    maps: tuple[Map, ...]
    rank: tuple[float, ...]


@quietly()
def others(probe: Probe, image: Image, method: Explainer, whole: Map) -> Others | None:
    """The maps of the other classes; None where the target is no class of a classifier."""
    (target,) = probe.targets
    logits = class_logits(probe.output(image)) if isinstance(target, ClassScore) else None
    if logits is None or not isinstance(target, ClassScore):
        return None
    ranked = two_sided(logits)[0].argsort(descending=True).tolist()
    asked = target.index if isinstance(target.index, int) else next(iter(target.index))
    classes = [each for each in ranked if each != asked][:_OTHERS]
    targets = tuple(replace(target, index=each) for each in classes)
    maps = torch.split(maps_of(method, replace(probe, target=targets), image), 1, 1)
    ranks = [float(rank_correlation(whole, each)) for each in maps]
    return Others(tuple(classes), tuple(maps), tuple(ranks))


@dataclass(frozen=True, eq=False)
class Faith:
    """Deletion and insertion, of the map and of random ones.

    Attributes:
        deletion: the map's curve, of the class's probability where there is one.
        insertion: the map's curve.
        random: the areas' difference of each random map; empty where it is not defined.
    """

    deletion: Curve
    insertion: Curve
    random: tuple[float, ...]

    @property
    def defined(self) -> bool:
        return bool(self.deletion.defined.all())

    @property
    def value(self) -> float:
        """The normalised area of insertion less that of deletion."""
        return float(self.insertion.normalised - self.deletion.normalised)


def probable(probe: Probe, image: Image) -> Probe:
    """The probe of the class's probability, where the target is a class of a classifier.

    Half-blurred images are new to a network: its logits may go anywhere, a probability can't.
    """
    (target,) = probe.targets
    logits = class_logits(probe.output(image)) if isinstance(target, ClassScore) else None
    if logits is None or not isinstance(target, ClassScore) or target.activation != "none":
        return probe
    activation: Literal["sigmoid", "softmax"] = "sigmoid" if logits.shape[1] == 1 else "softmax"
    return replace(probe, target=replace(target, activation=activation))


def faith(
    probe: Probe, image: Image, whole: Map, random: list[Map], steps: int, step: Step
) -> Faith:
    """The curves of a map, and the same figure of random maps; of probabilities, as in RISE."""
    probe = probable(probe, image)

    def curves(saliency: Map, known: Curve | None) -> tuple[Curve, Curve]:
        asked = Asked(probe, image, saliency, "blur", steps, 1, 0, 1)
        taken = read("deletion", asked, known)
        return taken, read("insertion", asked, taken)

    taken, put = curves(whole, None)
    step()
    chance: list[float] = []
    for each in random if bool(taken.defined.all()) else ():
        one, other = curves(each, taken)
        chance.append(float(other.normalised - one.normalised))
        step()
    return Faith(taken, put, tuple(chance))
