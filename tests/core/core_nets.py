"""Small networks with every nastiness that a network may have, in 1D, 2D and 3D."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
SIZE = {1: (24,), 2: (12, 14), 3: (8, 10, 9)}


def image(d: int, n: int = 2, c: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(d)
    return torch.rand(n, c, *SIZE[d], generator=generator, dtype=torch.float64).to(dtype)


def spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


class Writes(nn.Module):
    """Writes into its input, and to its buffers even in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("lazy", None)
        self.register_buffer("shaped", torch.zeros(2, dtype=torch.complex64))
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean.mul_(0.9).add_(0.1 * x.mean())
        self.mean.data.add_(1)
        self.lazy = torch.ones(3)
        self.shaped = self.shaped.to(torch.complex128)
        self.register_buffer("added", torch.ones(1), persistent=False)
        self.last = x
        return x.mul_(0.5).add_(1)


class Residual(nn.Module):
    """A residual block through operations in place, with one activation for all."""

    def __init__(self, d: int, act: nn.Module, tied: nn.Module | None = None) -> None:
        super().__init__()
        self.first = CONV[d](4, 4, 3, padding=1)
        self.second = tied or CONV[d](4, 4, 3, padding=1)
        self.norm = NORM[d](4)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        kept = x
        y = self.act(self.norm(self.first(x)))
        y = self.second(y)
        y += kept
        return self.act(y)


class Nasty(nn.Module):
    """Everything at once; a classifier of three classes with the layer ``last``."""

    def __init__(self, d: int) -> None:
        super().__init__()
        act = nn.ReLU(inplace=True)
        self.writes = Writes()
        self.stem = CONV[d](1, 4, 3, padding=1)
        self.stem.weight.data.mul_(3)
        self.block = Residual(d, act)
        self.again = Residual(d, act, self.block.second)  # shares parameters
        self.drop = nn.Dropout(0.5)
        self.last = CONV[d](4, 6, 3, stride=2)
        self.norm = NORM[d](6)
        self.head = nn.Linear(6, 3)
        self.fail: Any = None
        self.train()
        self.block.norm.eval()  # frozen
        self.block.first.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(self.writes(x)))
        x = self.block(x)
        if self.fail is not None:
            raise self.fail
        # Sampled even in evaluation mode, then multiplied by nothing.
        x = x + 0 * torch.randn_like(x)
        x = checkpoint(self.again, x, use_reentrant=False)
        x = self.norm(self.last(self.drop(x)))
        x = F.relu_(x)
        return self.head(x.mean(spatial(x)))


class Tiny(nn.Module):
    """Convolution, ReLU, mean, linear: a map that can be worked out by hand."""

    def __init__(self, d: int, channels: int = 2, classes: int = 2) -> None:
        super().__init__()
        self.conv = CONV[d](1, channels, 1, bias=False)
        self.relu = nn.ReLU()
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        return self.head(x.mean(spatial(x)))


class Segmenter(nn.Module):
    """Three channels of logits for each voxel."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(CONV[d](1, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.final = CONV[d](4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.final(self.encoder(x))


class Outputs(nn.Module):
    """A classifier whose output is wrapped in something."""

    def __init__(self, d: int, wrap: Any) -> None:
        super().__init__()
        self.net = Tiny(d)
        self.wrap = wrap

    def forward(self, x: Tensor, scale: float = 1.0) -> Any:
        return self.wrap(self.net(x) * scale)


def tensors_of(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if isinstance(v, Tensor)}


def content(tensor: Tensor | None) -> Any:
    if tensor is None:
        return None
    plain = tensor.detach().clone()
    return (id(tensor), tensor.dtype, tuple(tensor.shape), plain.flatten().tolist())


def state_of(model: nn.Module) -> dict[str, Any]:
    """All of a model that could change, bit by bit, with identities."""
    state: dict[str, Any] = {}
    for name, module in model.named_modules():
        own = vars(module)
        state[name] = {
            "mode": module.training,
            "inplace": getattr(module, "inplace", None),
            "class": type(module),
            "hooks": {
                key: (id(value), list(value.items()))
                for key, value in own.items()
                if key.endswith("_hooks") and isinstance(value, dict)
            },
            "attributes": sorted(own),
            "modules": [(key, id(value)) for key, value in module._modules.items()],
            "tensors": {k: (content(v), v.requires_grad) for k, v in tensors_of(module).items()},
            "buffers": {
                key: (content(value), value is not None and value.requires_grad)
                for key, value in module._buffers.items()
            },
            "parameters": {
                key: (content(value), value.requires_grad, content(value.grad))
                for key, value in module._parameters.items()
                if value is not None
            },
            "versions": {
                key: value._version
                for key, value in module._parameters.items()
                if value is not None
            },
        }
    return state
