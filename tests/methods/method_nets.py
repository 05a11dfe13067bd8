"""Small networks whose maps are known by hand, or that have one of everything."""

import torch
from torch import Tensor, nn

from medsal import Probe
from medsal.targets import ClassScore

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZE = {1: (17,), 2: (11, 9), 3: (8, 7, 6)}


class Head(nn.Module):
    """The image is the layer's output; each score is a weighted sum of its cells."""

    def __init__(self, weights: Tensor, bias: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Identity()
        self.register_buffer("weights", weights)
        self.bias = bias

    def forward(self, image: Tensor) -> Tensor:
        cells = self.features(image)[:, None] * self.weights
        return cells.flatten(2).sum(2) + self.bias


class Pooled(nn.Module):
    """Convolution, ReLU, mean over space, linear layer."""

    def __init__(self, axes: int = 2, classes: int = 3, channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(CONV[axes](channels, 4, 3, stride=2, padding=1), nn.ReLU())
        self.linear = nn.Linear(4, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.linear(self.features(image).flatten(2).mean(2))


class Deep(nn.Module):
    """Two convolutions with ReLUs (one in place), a head of two layers: nothing is linear."""

    def __init__(self, axes: int = 2, channels: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(CONV[axes](channels, 5, 3, padding=1), nn.ReLU(inplace=True))
        self.second = nn.Sequential(CONV[axes](5, 4, 3, stride=2, padding=1), nn.ReLU())
        self.hidden = nn.Sequential(nn.Linear(4, 6), nn.ReLU())
        self.last = nn.Linear(6, classes)

    def forward(self, image: Tensor) -> Tensor:
        pooled = self.second(self.first(image)).flatten(2).square().mean(2)
        return self.last(self.hidden(pooled))


class Skip(nn.Module):
    """A segmentation network with a skip connection by concatenation."""

    def __init__(self, axes: int = 2) -> None:
        super().__init__()
        self.first = nn.Sequential(CONV[axes](1, 3, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(CONV[axes](3, 3, 3, padding=1), nn.ReLU())
        self.head = CONV[axes](6, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = self.first(image)
        return self.head(torch.cat([first, self.second(first)], 1))


class OneReLU(nn.Module):
    """A ReLU that is called twice on a grid, over as many channels, and once in the head."""

    def __init__(self, axes: int = 2) -> None:
        super().__init__()
        self.first = CONV[axes](2, 4, 3, padding=1)
        self.second = CONV[axes](4, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU()
        self.hidden = nn.Linear(4, 5)
        self.last = nn.Linear(5, 3)

    def features(self, image: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(image))))

    def head(self, features: Tensor) -> Tensor:
        return self.last(self.relu(self.hidden(features.flatten(2).mean(2))))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image))


def seeded(net: nn.Module, seed: int = 0) -> nn.Module:
    """The same net in float64 with weights that depend on nothing but the seed."""
    generator = torch.Generator().manual_seed(seed)
    net = net.double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.6)
    return net.eval()


def images(axes: int = 2, samples: int = 2, channels: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, channels, *SIZE[axes], generator=generator).double()


def probe(net: nn.Module, *classes: int | tuple[int, ...]) -> Probe:
    targets = tuple(ClassScore(each) for each in classes or (1,))
    return Probe(net, targets if len(targets) > 1 else targets[0])
