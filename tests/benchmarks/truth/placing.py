"""Where coarse maps lie, by five ways of placing them: the heart of the benchmark."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from medsal import METHODS, Probe
from medsal.evaluate import placement
from medsal.ops import resize
from medsal.targets import ClassScore
from tests.benchmarks.truth.figures import place
from tests.benchmarks.truth.networks import FAMILIES, Recipe, unlabelled
from tests.benchmarks.truth.scenes import Scene

WAYS = ("trilinear", "theory", "calibrated", "mirrored 2", "mirrored 8")
#: Methods, each with its layer, counted from the end.
MAPS = (("gradcam", -1), ("gradcam", -2), ("hirescam", -2), ("hirescam", -3), ("layercam", -3))
FLIPS = [
    tuple(axis for axis, chosen in zip((2, 3, 4), choice, strict=True) if chosen)
    for choice in product((False, True), repeat=3)
]


def theory(family: str, stride: float) -> float:
    """The shift by the layers' arithmetic [voxels]: a cell i of stride a lies at a i + b.

    Convolutions of kernel 7 and padding 3 or kernel 3 and padding 1, and max pooling 3/2/1, have
    b = 0. DenseNet's transitions from stride 4 on average two by two, which adds half of the finer
    stride to b.
    """
    begin = max(stride / 2 - 2, 0.0) if family == "DenseNet121" else 0.0
    return begin - (stride - 1) / 2


def named(method: str, back: int) -> str:
    """A map's name: the method, and its layer counted from the end."""
    return f"{method} at layer {back}"


def shifts(recipe: Recipe, net: nn.Module, count: int) -> dict[str, dict[str, Any]]:
    """The calibrated shift of each of `MAPS`, from scans of other heads; no label is used."""
    scans = torch.stack([unlabelled(recipe, i).image for i in range(count)])
    found: dict[str, dict[str, Any]] = {}
    for method, back in MAPS:
        layer = FAMILIES[recipe.family].layers[-back - 1]
        try:
            measured = placement(net, scans, method=method, layer=layer)
        except ValueError as error:
            found[named(method, back)] = {"refused": str(error).partition(":")[0]}
            continue
        found[named(method, back)] = {
            "shift": measured.shift,
            "uncertainty": measured.uncertainty,
            "agreement": measured.agreement,
        }
    return found


def placed(
    recipe: Recipe, net: nn.Module, case: Scene, found: dict[str, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """The figures of one lesion for each of `MAPS` and each of `WAYS`."""
    layers = FAMILIES[recipe.family].layers
    size = case.image.shape[1:]
    # On the layers' own grids: of the scan, and of each of its mirror images.
    coarse = [coarse_maps(net, case.image[None].flip(axes), case.label, layers) for axes in FLIPS]
    for name in coarse[0]:
        grids = [each[name] for each in coarse]
        stride = size[-1] / grids[0].shape[-1]
        maps = [resize(grid, size).flip(axes) for grid, axes in zip(grids, FLIPS, strict=True)]
        ways = {
            "trilinear": maps[0],
            "theory": resize(grids[0], size, [theory(recipe.family, stride)] * 3),
            "mirrored 2": (maps[0] + maps[-1]) / 2,
            "mirrored 8": torch.stack(maps).mean(0),
        }
        if "shift" in found[name]:
            ways["calibrated"] = resize(grids[0], size, found[name]["shift"])
        for way, saliency in ways.items():
            yield {
                "map": name,
                "way": way,
                "stride": stride,
                **place(saliency, case.masks[None], case.mm),
            }


def coarse_maps(
    net: nn.Module, image: Tensor, label: int, layers: tuple[str, ...]
) -> dict[str, Tensor]:
    """All maps of one image from one pass, on their layers' grids."""
    wanted = sorted({back for _, back in MAPS}, reverse=True)
    taps = Probe(net, ClassScore(label)).taps(image, [layers[-back - 1] for back in wanted])
    by_layer = dict(zip(wanted, taps, strict=True))
    probe = Probe(net, ClassScore(label))
    return {
        named(method, back): METHODS[method]().coarse(probe, image, by_layer[back])
        for method, back in MAPS
    }
