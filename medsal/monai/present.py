"""What of a batch can be explained: a segmentation may have nothing of what was asked for."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from medsal.origin import origins_of
from medsal.regions import EmptyRegionError
from medsal.result import SaliencyMap, sample_output
from medsal.targets import sample_of

Ask: TypeAlias = Callable[[Tensor, Any, Any], SaliencyMap]
"""From an image, a target and the prediction to the map."""


def explained(ask: Ask, image: Tensor, target: Any, prediction: Any) -> list[list[SaliencyMap]]:
    """The maps of a batch ``(n, c, *s)``, in groups: those of a group are of the same samples.

    One map of all samples and targets, as a rule. Where one of them has no region, each sample is
    explained alone, and of a sample each target alone; a warning names what has no map.
    """
    try:
        return [[ask(image, target, prediction)]]
    except EmptyRegionError as error:
        if len(image) > 1:
            return [
                group
                for i in range(len(image))
                for group in _one(ask, image, target, prediction, i)
            ]
        if isinstance(target, list | tuple) and len(target) > 1:
            apart = [explained(ask, image, each, prediction) for each in target]
            maps = [each for groups in apart for group in groups for each in group]
            return [maps] if maps else []
        path = origins_of(image)[0].path
        name = f" of {Path(path).name}" if path else ""
        warnings.warn(f"no saliency map{name}: {error}", UserWarning, stacklevel=2)
        return []


def _one(ask: Ask, image: Tensor, target: Any, prediction: Any, i: int) -> list[list[SaliencyMap]]:
    several = isinstance(target, list | tuple)
    its = [sample_of(each, i) for each in target] if several else sample_of(target, i)
    return explained(ask, image[i : i + 1], its, sample_output(prediction, i, len(image)))
