"""MONAI's networks with the strides and kernels they are published with, trained here on a CPU.

They are narrower than published, so that each trains in minutes. Most of the training sees windows
around a lesion; the last part sees whole scans, in which the lesion is a smaller share of the
global average.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import DenseNet, ResNet, resnet10, resnet18, resnet50
from torch import Generator, Tensor, nn

from medsal.demo.lesions import generator
from tests.benchmarks.truth import demo
from tests.benchmarks.truth.scenes import KINDS, SIGNS, SIZE, Scene, calibrating, case_of, scene

#: Lesions that all networks train on, and the seed that they are drawn from.
LESIONS, SEED = 640, 1
#: Networks that are right less often are shown, and not used for localisation.
ACCURATE = 0.9


def file_of(name: str) -> str:
    """The beginning of the names of a network's files."""
    return name.replace(", ", "_").replace(" ", "-")


@dataclass(frozen=True)
class Recipe:
    """One network and how it is trained.

    Attributes:
        family: which of `FAMILIES`.
        seed: of the weights and of the order of the scans.
        flips: the training mirrors scans along all axes at random.
        lopsided: scans whose left and right differ.
        cases: lesions that the places of its maps are measured on.
        compared: lesions that all methods are compared on.
    """

    family: str
    seed: int = 0
    flips: bool = True
    lopsided: bool = False
    cases: int = 24
    compared: int = 0

    @property
    def name(self) -> str:
        if self.family == demo.NAME:
            return f"{self.family}{', lopsided scans' if self.lopsided else ''}"
        flips = "flips" if self.flips else "no flips"
        return f"{self.family}, {flips}{', lopsided' if self.lopsided else ''}, seed {self.seed}"

    @property
    def file(self) -> str:
        return file_of(self.name)

    @property
    def group(self) -> str:
        """What its seeds have in common."""
        return self.name.rpartition(",")[0]


@dataclass(frozen=True)
class Family:
    """An architecture, the layers to look at, and how long it trains.

    Attributes:
        build: the network.
        layers: from the last one with all spatial axes to finer ones.
        windows: steps on windows, 18 in each.
        wholes: steps on whole scans, 9 in each.
        window: edge of a window.
    """

    build: Callable[[], nn.Module]
    layers: tuple[str, ...]
    windows: int = 500
    wholes: int = 240
    window: int = 32


def _resnet(
    make: Callable[..., ResNet], stride: int, width: float = 0.25
) -> Callable[[], nn.Module]:
    return lambda: make(
        spatial_dims=3, n_input_channels=1, num_classes=2, widen_factor=width, conv1_t_stride=stride
    )


def _densenet() -> nn.Module:
    return DenseNet(3, 1, 2, init_features=16, growth_rate=8, block_config=(6, 12, 24, 16))


_RESNET = ("layer4", "layer3", "layer2", "layer1")
_DENSE = ("features", "features.denseblock3", "features.denseblock2", "features.denseblock1")

FAMILIES = {
    "ResNet10 stem 2": Family(_resnet(resnet10, 2), _RESNET, 1100, 450),
    "ResNet10 stem 1": Family(_resnet(resnet10, 1, 0.125), _RESNET, 500, 120, 24),
    "ResNet18 stem 2": Family(_resnet(resnet18, 2), _RESNET, 900, 350),
    "ResNet50 stem 2": Family(_resnet(resnet50, 2), _RESNET, 700, 250),
    "DenseNet121": Family(_densenet, _DENSE),
    demo.NAME: Family(demo.build, demo.LAYERS),
}


def scans(count: int, seed: int, lopsided: bool, **options: Any) -> dict[str, Tensor]:
    """Scans as stacks: with a lesion of neither kind, what a bright core adds, and where."""
    bright = [scene(seed, 3 * i, lopsided=lopsided, **options) for i in range(count)]
    neither = [scene(seed, 3 * i + 2, lopsided=lopsided, **options) for i in range(count)]
    common = torch.stack([each.image for each in neither])
    return {
        "common": common.half(),
        "half": (torch.stack([each.image for each in bright]) - common).half(),
        "centres": torch.tensor([each.lesions[0].centre for each in bright]),
    }


def labels_of(kinds: Sequence[int]) -> Tensor:
    """For each scan, whether it holds a lesion of the first and of the second kind, `(n, 2)`."""
    return torch.tensor([[float(kind == each) for each in (0, 1)] for kind in kinds])


def train(recipe: Recipe, stacks: dict[str, Tensor], say: Callable[[str], None]) -> nn.Module:
    """The network, trained, in eval mode; now and then it says how often it was right."""
    family = FAMILIES[recipe.family]
    torch.manual_seed(recipe.seed)
    net = family.build().train().to(memory_format=torch.channels_last_3d)  # faster on a CPU
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-4)
    right: list[Tensor] = []
    for rate, images, labels in batches(recipe, stacks):
        optimiser.param_groups[0]["lr"] = 2e-3 * rate
        optimiser.zero_grad()
        output = net(images)
        F.binary_cross_entropy_with_logits(output, labels).backward()
        optimiser.step()
        right.append(((output > 0) == (labels > 0)).all(1).float().mean())
        if len(right) % 50 == 0:
            edge, share = images.shape[-1], torch.stack(right[-50:]).mean()
            say(f"{recipe.name}: step {len(right)}, {edge} voxels, {share:.2f} right")
    return net.eval()


def batches(recipe: Recipe, stacks: dict[str, Tensor]) -> Iterator[tuple[float, Tensor, Tensor]]:
    """The learning rate relative to the highest, images and labels of each step.

    Lesions are exaggerated at first, four times in windows and twice in whole scans: at their own
    strength a network finds nothing to begin with.
    """
    g = generator(recipe.seed, 7)
    family = FAMILIES[recipe.family]
    for steps, window, count, start, top in (
        (family.windows, family.window, 6, 4.0, 1.0),
        (family.wholes, SIZE, 3, 2.0, 0.5),
    ):
        for step in range(steps):
            share = step / steps
            strength = 1 + (start - 1) * max(0.0, 1 - share / 0.6)
            rate = top * min(1.0, (step + 1) / 20) * (0.51 + 0.49 * math.cos(math.pi * share))
            yield rate, *_batch(g, recipe, stacks, count, window, strength)


def _batch(
    g: Generator,
    recipe: Recipe,
    stacks: dict[str, Tensor],
    count: int,
    window: int,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """`count` lesions, each in all kinds, in windows that hold them somewhere."""
    images = []
    for row in torch.randint(len(stacks["common"]), (count,), generator=g).tolist():
        common, half = stacks["common"][row].float(), strength * stacks["half"][row].float()
        for sign in SIGNS:
            seen = (common + sign * half)[_window(g, stacks["centres"][row], window)]
            images.append(_flipped(g, seen) if recipe.flips else seen)
    stack = torch.stack(images)
    if not recipe.flips:
        stack = _varied(g, stack)
    stack = stack * (0.8 + 0.4 * torch.rand(len(stack), 1, 1, 1, 1, generator=g))
    stack = stack + 0.03 * torch.randn(stack.shape, generator=g)
    return stack, labels_of([0, 1, 2] * count)


def _window(g: Generator, centre: Tensor, window: int) -> tuple[slice, ...]:
    """A window, of all channels, that holds the lesion's centre somewhere."""
    low = (centre - window + 4).clamp(0, SIZE - window)
    high = (centre - 4).clamp(0, SIZE - window)
    start = (low + (high - low) * torch.rand(3, generator=g)).round().int().tolist()
    return (slice(None), *(slice(at, at + window) for at in start))


def _flipped(g: Generator, image: Tensor) -> Tensor:
    return image.flip([axis for axis in (1, 2, 3) if torch.rand((), generator=g) < 0.5])


def _varied(g: Generator, stack: Tensor) -> Tensor:
    """Each scan with another gamma, sharpness and coil.

    Networks that see no mirrored scans need it: without it, what they learn of two heads does not
    hold for a third one.
    """
    one = (len(stack), 1, 1, 1, 1)
    gamma = torch.exp(0.3 * torch.randn(one, generator=g))
    stack = stack.clamp(min=0) ** gamma
    sharper = 1.6 * torch.rand(one, generator=g) - 0.8
    stack = stack + sharper * (stack - F.avg_pool3d(stack, 3, 1, 1, count_include_pad=False))
    coil = 0.2 * torch.randn(len(stack), 1, 3, 3, 3, generator=g)
    return stack * torch.exp(F.interpolate(coil, stack.shape[2:], mode="trilinear"))


def outputs(net: nn.Module, images: Tensor) -> Tensor:
    """The logits of many scans."""
    with torch.no_grad():
        return torch.cat([net(part.float()) for part in images.split(8)])


def measured(recipe: Recipe, i: int) -> Scene:
    """The scan with lesion `i` that a network is measured on."""
    return (demo.case_of if recipe.family == demo.NAME else case_of)(i, recipe.lopsided)


def unlabelled(recipe: Recipe, i: int) -> Scene:
    """Scan `i` of other heads, for the calibration."""
    return (demo.calibrating if recipe.family == demo.NAME else calibrating)(i, recipe.lopsided)


def right(net: nn.Module, image: Tensor, kind: int) -> bool:
    """Whether a network says of one scan what it holds."""
    output = outputs(net, image)
    if output.shape[1] > len(KINDS) - 1:
        return int(output.argmax()) == kind  # the demo network's classes exclude each other
    return bool(((output > 0) == (labels_of([kind]) > 0)).all())


def trained(
    recipe: Recipe,
    make: Callable[[], dict[str, Tensor]],
    folder: Path,
    say: Callable[[str], None],
) -> tuple[nn.Module, float]:
    """The network of a recipe, from the folder if it is there; and its training's time [CPU s]."""
    path = folder / f"{recipe.file}.pt"
    if not path.is_file():
        stacks = make()
        began = time.process_time()
        weights = train(recipe, stacks, say).state_dict()
        part = path.with_suffix(".part")
        torch.save({"weights": weights, "seconds": time.process_time() - began}, part)
        part.rename(path)
    stored = torch.load(path, weights_only=True)
    net = FAMILIES[recipe.family].build()
    net.load_state_dict(stored["weights"])
    return net.eval(), stored["seconds"]
