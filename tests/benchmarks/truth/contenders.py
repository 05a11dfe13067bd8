"""What is compared: medsal's methods, MONAI's own, and maps that know nothing of the network."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import medsal
from medsal import METHODS, GradCAM, HiResCAM, LayerCAM, Mirrored
from medsal.ops import smooth
from tests.benchmarks.truth.networks import FAMILIES, Recipe

#: Options by which slow methods are shortened here; all others are as they come.
SHORTENED: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 12},
    "expected_gradients": {"samples": 12},
    "smoothgrad": {"samples": 8},
    "occlusion": {"window": 10},
    "rise": {"masks": 200},
}
#: MONAI's own: CAMs at the same layer, gradients, and occlusion.
MONAI = ("CAM", "GradCAM", "GradCAMpp", "GuidedBackpropGrad", "SmoothGrad", "OcclusionSensitivity")

Maps = Callable[[nn.Module, Tensor, list[int]], Tensor]
"""From a network, an image ``(1, 1, *s)`` and classes to maps ``(1, classes, *s)``."""


@dataclass(frozen=True)
class Contender:
    """A way to a map.

    Attributes:
        name: in the table.
        kind: "medsal", "MONAI" or "knows nothing".
        maps: what makes the maps.
        method: medsal's, where it is one.
    """

    name: str
    kind: str
    maps: Maps
    method: Any = None


def contenders(recipe: Recipe, references: Tensor) -> list[Contender]:
    """All of them for one network; layers are counted from the end."""
    layers = FAMILIES[recipe.family].layers
    found = [_of(name, METHODS[name](**_options(name, references))) for name in METHODS]
    found += [
        _of("gradcam, Mirrored 2", Mirrored("gradcam")),
        _of("gradcam at layer -2, Mirrored 2", Mirrored(GradCAM(layers[1]))),
        _of("hirescam at layer -2, Mirrored 2", Mirrored(HiResCAM(layers[1]))),
        _of("hirescam at layer -3", HiResCAM(layers[2])),
        _of("hirescam at layer -3, Mirrored 2", Mirrored(HiResCAM(layers[2]))),
        _of("layercam at layer -3, Mirrored 2", Mirrored(LayerCAM(layers[2]))),
        _of("layercam at layer -3, Mirrored 8", Mirrored(LayerCAM(layers[2]), passes=8)),
    ]
    found += [Contender(f"MONAI {name}", "MONAI", _monai(name, layers[0])) for name in MONAI]
    found += [Contender("random", "knows nothing", random_map)]
    return [*found, Contender("middle of the grid", "knows nothing", middle_map)]


def _options(name: str, references: Tensor) -> dict[str, Any]:
    options = dict(SHORTENED.get(name, {}))
    return {**options, "references": references} if name == "expected_gradients" else options


def _of(name: str, method: Any) -> Contender:
    def maps(net: nn.Module, image: Tensor, classes: list[int]) -> Tensor:
        return medsal.explain(net, image, classes, method).data

    return Contender(name, "medsal", maps, method)


def _monai(name: str, layer: str) -> Maps:
    """MONAI's, without its post-processing, which turns maps upside down."""

    def maps(net: nn.Module, image: Tensor, classes: list[int]) -> Tensor:
        from monai import visualize

        net = copy.deepcopy(net)  # its hooks stay on the network
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if name == "GuidedBackpropGrad":
                gradients = visualize.GuidedBackpropGrad(net)
                return torch.cat([gradients(image.clone(), index=each) for each in classes], 1)
            if name == "SmoothGrad":
                noisy = visualize.SmoothGrad(net, n_samples=8, verbose=False)
                return torch.cat([noisy(image.clone(), index=each) for each in classes], 1)
            if name == "OcclusionSensitivity":
                # Its map is the probability under a window, low where that matters; as it is with
                # images of one channel, a sigmoid's.
                occlude = visualize.OcclusionSensitivity(net, overlap=0.5, verbose=False)
                under = occlude(image.clone())[0].as_tensor()
                return (net(image).sigmoid().view(1, -1, 1, 1, 1) - under)[:, classes]
            options = {"target_layers": layer, "postprocessing": lambda each: each}
            if name == "CAM":
                options["fc_layers"] = "class_layers.out" if layer == "features" else "fc"
            cam = getattr(visualize, name)(net, **options)
            return torch.cat(
                [
                    cam(image.clone(), class_idx=[each] if name == "CAM" else each)
                    for each in classes
                ],
                1,
            )

    return maps


def random_map(net: nn.Module, image: Tensor, classes: list[int]) -> Tensor:
    """Noise as smooth as a map of cells of stride 16, another one for each image and class."""
    g = torch.Generator().manual_seed(int(image.double().square().sum() * 1000) % 2**31)
    noise = torch.rand(1, len(classes), *image.shape[2:], generator=g)
    return smooth(noise, [8.0] * (image.ndim - 2)) - 0.45


def middle_map(net: nn.Module, image: Tensor, classes: list[int]) -> Tensor:
    """The middle of the grid, where heads have theirs, whatever the scan."""
    axis = (torch.arange(image.shape[-1]) - (image.shape[-1] - 1) / 2).square()
    apart = axis[:, None, None] + axis[None, :, None] + axis[None, None, :]
    return torch.exp(-apart / (2 * 8.0**2)).expand(1, len(classes), -1, -1, -1)
