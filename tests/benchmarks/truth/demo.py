"""The network that medsal ships, on its own kind of lesions: trained by other hands, as it were.

It is a DenseNet of one block with cells of stride 4, trained with left and right exchanged at
random, and its samples are those of `medsal.demo.samples`.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from medsal.demo import BUNDLE
from medsal.demo.evaluate import SEED, configuration, load_network
from medsal.demo.heads import MM, SHAPE
from medsal.demo.samples import LesionDataset
from tests.benchmarks.truth.scenes import HELD_OUT, TRAINING, Scene

NAME = "medsal's demo network"
#: Edge of a window [voxels].
WINDOW = 48
LAYERS = ("features", "features.denseblock1", "features.pool0", "features.relu0")


def build() -> nn.Module:
    """The network with its weights."""
    return load_network()


@lru_cache
def _normalise() -> Any:
    return configuration(BUNDLE).get_parsed_content("normalise")


def case_of(i: int, lopsided: bool) -> Scene:
    """Lesion `i` of the held-out head, bright and ring in turn."""
    return _sided(_scene(3 * i + 1 + i % 2, (HELD_OUT,), SEED), lopsided)


def calibrating(i: int, lopsided: bool) -> Scene:
    """Lesion `i` of the heads that it was trained on."""
    return _sided(_scene(3 * i + 1 + i % 2, TRAINING, SEED + 1), lopsided)


def _sided(case: Scene, lopsided: bool) -> Scene:
    """With a coil at one side, and the other side cut off up to the lesion's near end at most."""
    if not lopsided:
        return case
    width = case.image.shape[1]
    gain = torch.linspace(0.6, 1.4, width)[:, None, None]
    cut = min(width // 4, int(case.masks.any(0).flatten(1).any(1).nonzero().min()) - 3)
    seen = (torch.arange(width) >= cut)[:, None, None]
    return replace(case, image=case.image * gain * seen)


def window_of(i: int) -> Scene:
    """Lesion `i` of the held-out head in a window of the scan, as the training had them."""
    return _scene(3 * i + 1 + i % 2, (HELD_OUT,), SEED + 2, (WINDOW,) * 3)


def _scene(index: int, heads: tuple[str, ...], seed: int, window: tuple[int, ...] = SHAPE) -> Scene:
    samples = LesionDataset(index + 1, heads, seed, "plain", window)
    sample = _normalise()(samples[index])
    return Scene(sample["image"].as_tensor(), sample["label"], sample["mask"], (), MM)
