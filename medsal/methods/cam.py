"""Class activation maps: a layer's activations, weighted by what their gradients say.

A new one is a class with a source and a `weights` of activations and gradients.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from medsal.methods.registry import Method, register
from medsal.ops import resize, spatial_mean
from medsal.probe import Probe, Tapped
from medsal.types import Features, Image, Map, Weights


@dataclass(frozen=True)
class CAM(Method):
    """A sum of a layer's channels, weighted, rectified and upsampled linearly to the image's grid.

    Args:
        layer: dotted name of the layer; None = the last one that still has all spatial axes.
    """

    layer: str | None = None

    one_pass: ClassVar[bool] = True
    rectified: ClassVar[bool] = True

    def weights(self, activations: Features, gradients: Features) -> Weights:
        """What each channel, or each of its cells, counts for; broadcast against activations."""
        raise TypeError(f"{type(self).__name__} needs a method weights(activations, gradients)")

    def __call__(self, probe: Probe, image: Image) -> Map:
        (tap,) = probe.taps(image, [self.layer] if self.layer else None)
        return resize(self.coarse(tap), image.shape[2:])

    def coarse(self, tap: Tapped) -> Map:
        """The maps on the layer's own grid, ``(n, t, *f)``."""
        # Sums over hundreds of channels of small numbers: half precision would round them away.
        activations = (
            tap.activations if tap.activations.dtype == torch.float64 else tap.activations.float()
        )
        sums = [
            (self.weights(activations, g) * activations).sum(1, keepdim=True) for g in tap.gradients
        ]
        maps: Tensor = torch.cat(sums, 1)
        return maps.relu() if self.rectified else maps


@register("gradcam")
@dataclass(frozen=True)
class GradCAM(CAM):
    """Grad-CAM: each channel counts by the mean of its gradient.

    ``weights_k = mean_i g_ki``, ``map = relu(sum_k weights_k A_k)`` for activations ``A`` and the
    score's gradients ``g`` by them (equations 1 and 2). The score is the class's logit, before any
    softmax.
    """

    source: ClassVar[str] = (
        "Selvaraju et al., 2017, Grad-CAM: Visual Explanations from Deep Networks via "
        "Gradient-based Localization, arXiv:1610.02391, equations 1 and 2"
    )

    def weights(self, activations: Features, gradients: Features) -> Weights:
        return spatial_mean(gradients)
