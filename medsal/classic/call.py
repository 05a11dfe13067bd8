"""The call form of a network that is named in sections: `saliency`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsal.classic.sections import check_names, without_last
from medsal.explain import explain
from medsal.methods import GradCAM, GuidedBackprop, GuidedGradCAM, Method
from medsal.ops import spatial
from medsal.targets import ClassScore
from medsal.types import Image, Map

Sections = Sequence[str | Sequence[str]]
_METHODS: dict[str, type[Method]] = {
    "GradCAM": GradCAM,
    "GuidedBackprop": GuidedBackprop,
    "GuidedGradCAM": GuidedGradCAM,
}
MODES = {
    "2D": ("samples", "channels", "height", "width"),
    "3D": ("samples", "channels", "depth", "height", "width"),
}


@dataclass(frozen=True, eq=False)
class Saliency:
    """A model and a method, to be asked for predictions and maps together; see `saliency`.

    Attributes:
        model: the model; every call visits it and leaves no trace.
        method: the method.
        mode: "2D" or "3D".
        last: dotted name of the layer that ``ignore_lastlayer`` leaves out.
    """

    model: nn.Module
    method: Method
    mode: str
    last: str

    def __call__(
        self,
        batch: Image,
        target_class: int | Sequence[int] | Tensor | None = None,
        ignore_lastlayer: bool = False,
    ) -> tuple[Any, Map]:
        """The model's output for a batch, and where it comes from.

        Args:
            batch: ``(n, c, h, w)``, in mode "3D" ``(n, c, d, h, w)``.
            target_class: a class for all samples, or a list of one per sample; None = the
                predicted class of each.
            ignore_lastlayer: leave the last layer out, where that is a softmax or sigmoid: the
                output and the target are its logits.

        Returns:
            The output, and the maps ``(n, 1, *s)``: each sample's from 0 to 1. An empty map, or one
            that is the same everywhere, is 0.

        Raises:
            ValueError: for a batch of another shape than the mode's, another number of classes than
                samples, or when the last layer has weights of its own.
            LookupError: for a class that does not exist.
        """
        axes = MODES[self.mode]
        if batch.ndim != len(axes):
            raise ValueError(
                f"expected a batch ({', '.join(axes)}) in mode {self.mode!r}, got the shape "
                f"{tuple(batch.shape)}"
            )
        model = without_last(self.model, self.last) if ignore_lastlayer else self.model
        result = explain(model, batch, _target(target_class, len(batch)), self.method)
        return result.output, unit_range(result.data)


def saliency(
    model: nn.Module,
    section_names: Sections | None = None,
    target_layer: str | Sequence[str] | None = None,
    method: str = "GradCAM",
    mode: str = "3D",
    adaptive_layer: str | None = None,
) -> Saliency:
    """Three methods behind one call; what it gives is asked for predictions and maps at once.

    The maps are those of `explain`, each sample's min-max scaled to 0 to 1. `explain` gives them
    raw, with their place in the patient, and knows more methods and targets.

    Args:
        model: any module. Its own forward pass is run, so it need not be made of sections.
        section_names: layers of the convolutional and of the fully connected part. They are
            checked; only ``ignore_lastlayer`` asks which is the last.
        target_layer: for Grad-CAM: a layer's dotted name, or its parts in a list,
            ``["layer3", "1"]``; None = the last layer that still has all spatial axes.
        method: "GradCAM", "GuidedBackprop" or "GuidedGradCAM".
        mode: "2D" or "3D".
        adaptive_layer: the layer between both parts. It is checked, and not needed.

    Raises:
        LookupError: for a layer or method that does not exist; near names are given.
        ValueError: for another mode, or other than two sections.
        TypeError: for sections that are no names.

    Examples:
        >>> import medsal
        >>> from torch import nn, rand
        >>> head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *head)
        >>> find = medsal.saliency(model=net, method="GradCAM", mode="2D")
        >>> preds, maps = find(rand(1, 3, 16, 16), target_class=[1])
        >>> preds.shape, maps.shape
        (torch.Size([1, 2]), torch.Size([1, 1, 16, 16]))
    """
    if method not in _METHODS:
        raise LookupError(
            f"no method {method!r} here; expected one of {', '.join(map(repr, _METHODS))}; "
            f"medsal.explain knows all of medsal.METHODS"
        )
    if mode not in MODES:
        raise ValueError(f"expected a mode of {list(MODES)}, got {mode!r}")
    layer = target_layer if target_layer is None else _dotted(target_layer)
    last = check_names(model, section_names, layer, adaptive_layer)
    options = {} if method == "GuidedBackprop" else {"layer": layer}
    return Saliency(model, _METHODS[method](**options), mode, last)


def unit_range(maps: Map) -> Map:
    """Each map of ``(n, t, *s)`` from 0 to 1; 0 everywhere where all its values are the same."""
    low, high = maps.amin(spatial(maps), keepdim=True), maps.amax(spatial(maps), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)


def _dotted(layer: str | Sequence[str]) -> str:
    return layer if isinstance(layer, str) else ".".join(layer)


def _target(classes: int | Sequence[int] | Tensor | None, samples: int) -> Any:
    if classes is None or isinstance(classes, int):
        return classes
    given = [int(each) for each in (classes.tolist() if isinstance(classes, Tensor) else classes)]
    if not given:
        return None
    if len(given) not in (1, samples):
        raise ValueError(
            f"expected one class for all, or one for each of {samples} samples, got {len(given)}: "
            f"{given}; several classes of one sample: medsal.explain(model, image, target={given})"
        )
    return ClassScore(given[0] if len(given) == 1 else tuple(given))
