"""A map made the way in which an inferer made the prediction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from monai.inferers import SlidingWindowInferer
from torch import Tensor

from medsal.methods import Explainer
from medsal.monai.windowed import Windowed
from medsal.probe import Probe
from medsal.probe.gradients.graph import detached
from medsal.result import SaliencyMap
from medsal.types import Image


@dataclass(frozen=True)
class _Known(Windowed):
    """Over windows whose stitched prediction is there already."""

    prediction: Any = None

    def predict(self, probe: Probe, image: Image) -> Any:
        return detached(self.prediction)


def as_inferred(
    inferer: Any,
    method: Explainer,
    image: Tensor,
    prediction: Any,
    ask: Callable[[Explainer], SaliencyMap],
) -> SaliencyMap:
    """A map made the way in which an inferer made the prediction: over windows, if it slides one.

    Args:
        inferer: any inferer.
        method: what to explain with.
        image: ``(n, c, *s)``.
        prediction: what the inferer gave for it.
        ask: from a method to the map.
    """
    windowed = over_windows(inferer, method, image.shape[2:])
    if not isinstance(windowed, Windowed):
        return ask(method)
    given = {each.name: getattr(windowed, each.name) for each in fields(windowed)}
    return replace(ask(_Known(**given, prediction=prediction)), method=windowed)


def over_windows(inferer: Any, method: Explainer, size: Sequence[int]) -> Explainer:
    """The method over an inferer's windows, where it slides them over an image of this size."""
    if not isinstance(inferer, SlidingWindowInferer) or isinstance(method, Windowed):
        return method
    windowed = Windowed.like(inferer, method)
    whole = windowed.slices is None and windowed.window(size) == tuple(size)
    return method if whole else windowed
