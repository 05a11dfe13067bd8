"""MONAI's networks with the strides and kernels they are published with, trained here on a CPU.

They are narrower than published, so that each trains in minutes. Most of the training sees windows
around a lesion; the last part sees whole scans, in which the lesion is a smaller share of the
global average.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.nets import DenseNet, ResNet, resnet10, resnet18, resnet50
from torch import Generator, Tensor, nn

from medsal.demo.lesions import generator
from tests.benchmarks.truth.scenes import SIZE, scene

#: Pairs of scans that all networks train on, and the seed that they are drawn from.
PAIRS, SEED = 320, 1


@dataclass(frozen=True)
class Recipe:
    """One network and how it is trained.

    Attributes:
        family: which of `FAMILIES`.
        seed: of the weights and of the order of the scans.
        flips: the training mirrors scans along all axes at random.
        lopsided: scans whose left and right differ.
    """

    family: str
    seed: int = 0
    flips: bool = True
    lopsided: bool = False

    @property
    def name(self) -> str:
        flips = "flips" if self.flips else "no flips"
        return f"{self.family}, {flips}{', lopsided' if self.lopsided else ''}, seed {self.seed}"

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
        windows: steps on windows, 16 in each.
        wholes: steps on whole scans, 8 in each.
        window: edge of a window.
    """

    build: Callable[[], nn.Module]
    layers: tuple[str, ...]
    windows: int = 180
    wholes: int = 50
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
    "ResNet10 stem 2": Family(_resnet(resnet10, 2), _RESNET, 300, 120),
    "ResNet10 stem 1": Family(_resnet(resnet10, 1, 0.125), _RESNET, 240, 70, 24),
    "ResNet18 stem 2": Family(_resnet(resnet18, 2), _RESNET, 300, 120),
    "ResNet50 stem 2": Family(_resnet(resnet50, 2), _RESNET, 240, 90),
    "DenseNet121": Family(_densenet, _DENSE),
}


def scans(count: int, seed: int, lopsided: bool, **options: Any) -> dict[str, Tensor]:
    """Pairs of scans as stacks: what the two have in common, half of what they differ in, where."""
    made = [scene(seed, i, lopsided=lopsided, **options) for i in range(2 * count)]
    bright = torch.stack([each.image for each in made[::2]])
    dark = torch.stack([each.image for each in made[1::2]])
    return {
        "common": ((bright + dark) / 2).half(),
        "half": ((bright - dark) / 2).half(),
        "centres": torch.tensor([each.lesions[0].centre for each in made[::2]]),
    }


def train(recipe: Recipe, pairs: dict[str, Tensor], say: Callable[[str], None]) -> nn.Module:
    """The network, trained, in eval mode; now and then it says how often it was right."""
    family = FAMILIES[recipe.family]
    torch.manual_seed(recipe.seed)
    net = family.build().train()
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-4)
    right: list[Tensor] = []
    for rate, images, labels in batches(recipe, pairs):
        optimiser.param_groups[0]["lr"] = 2e-3 * rate
        optimiser.zero_grad()
        output = net(images)
        F.cross_entropy(output, labels).backward()
        optimiser.step()
        right.append((output.argmax(1) == labels).float().mean())
        if len(right) % 30 == 0:
            edge, share = images.shape[-1], torch.stack(right[-30:]).mean()
            say(f"{recipe.name}: step {len(right)}, {edge} voxels, {share:.2f} right")
    return net.eval()


def batches(recipe: Recipe, pairs: dict[str, Tensor]) -> Iterator[tuple[float, Tensor, Tensor]]:
    """The learning rate relative to the highest, images and labels of each step.

    Lesions are exaggerated at first, four times in windows and twice in whole scans: at their own
    strength a network finds nothing to begin with.
    """
    g = generator(recipe.seed, 7)
    family = FAMILIES[recipe.family]
    for steps, window, count, start, top in (
        (family.windows, family.window, 8, 4.0, 1.0),
        (family.wholes, SIZE, 4, 2.0, 0.5),
    ):
        for step in range(steps):
            share = step / steps
            strength = 1 + (start - 1) * max(0.0, 1 - share / 0.6)
            rate = top * min(1.0, (step + 1) / 20) * (1 - 0.9 * share)
            yield rate, *_batch(g, recipe, pairs, count, window, strength)


def _batch(
    g: Generator,
    recipe: Recipe,
    pairs: dict[str, Tensor],
    count: int,
    window: int,
    strength: float,
) -> tuple[Tensor, Tensor]:
    """`count` lesions, each in both kinds, in windows that hold them somewhere."""
    images = []
    for row in torch.randint(len(pairs["common"]), (count,), generator=g).tolist():
        common, half = pairs["common"][row].float(), strength * pairs["half"][row].float()
        for image in (common + half, common - half):
            seen = image[_window(g, pairs["centres"][row], window)]
            images.append(_flipped(g, seen) if recipe.flips else seen)
    stack = torch.stack(images)
    stack = stack * (0.8 + 0.4 * torch.rand(len(stack), 1, 1, 1, 1, generator=g))
    stack = stack + 0.03 * torch.randn(stack.shape, generator=g)
    return stack, torch.tensor([0, 1] * count)


def _window(g: Generator, centre: Tensor, window: int) -> tuple[slice, ...]:
    """A window, of all channels, that holds the lesion's centre somewhere."""
    low = (centre - window + 4).clamp(0, SIZE - window)
    high = (centre - 4).clamp(0, SIZE - window)
    start = (low + (high - low) * torch.rand(3, generator=g)).round().int().tolist()
    return (slice(None), *(slice(at, at + window) for at in start))


def _flipped(g: Generator, image: Tensor) -> Tensor:
    return image.flip([axis for axis in (1, 2, 3) if torch.rand((), generator=g) < 0.5])


def outputs(net: nn.Module, images: Tensor) -> Tensor:
    """The logits of many scans."""
    with torch.no_grad():
        return torch.cat([net(part.float()) for part in images.split(8)])


def trained(
    recipe: Recipe,
    pairs: Callable[[], dict[str, Tensor]],
    folder: Path,
    say: Callable[[str], None],
) -> nn.Module:
    """The network of a recipe, from the folder's cache if it is there."""
    path = folder / f"{recipe.name.replace(', ', '_').replace(' ', '-')}.pt"
    if not path.is_file():
        part = path.with_suffix(".part")
        torch.save(train(recipe, pairs(), say).state_dict(), part)
        part.rename(path)
    net = FAMILIES[recipe.family].build()
    net.load_state_dict(torch.load(path, weights_only=True))
    return net.eval()
