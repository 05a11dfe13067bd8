"""A graph that keeps little: the same outputs, the same gradients, a fraction of the memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import DenseNet, SegResNet, resnet10
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import medsal
from medsal.probe.gradients import narrow, turned
from medsal.probe.gradients.bits import kept_where_positive, pack
from medsal.probe.gradients.sparing import Sparing

LAYERS: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "convolution": (3, lambda: nn.Conv3d(4, 6, 3, 2, 1)),
    "convolution in groups": (2, lambda: nn.Conv2d(4, 8, 3, 1, 2, 2, 2)),
    "convolution by name": (2, lambda: nn.Conv2d(4, 8, 3, padding="same")),
    "reflections": (2, lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
    "first convolution": (3, lambda: nn.Conv3d(4, 6, 5, 2, 2)),
    "transposed": (3, lambda: nn.ConvTranspose3d(4, 5, 3, 2, 1, 1)),
    "transposed in groups": (1, lambda: nn.ConvTranspose1d(4, 6, 2, 2, groups=2)),
    "batch norm": (3, lambda: nn.BatchNorm3d(4)),
    "batch norm without weights": (2, lambda: nn.BatchNorm2d(4, affine=False)),
    "batch norm without statistics": (1, lambda: nn.BatchNorm1d(4, track_running_stats=False)),
    "relu": (3, lambda: nn.ReLU()),
    "relu in place": (2, lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(True))),
    "leaky relu": (1, lambda: nn.LeakyReLU(0.2)),
    "leaky relu in place": (3, lambda: nn.Sequential(nn.Conv3d(4, 4, 1), nn.LeakyReLU(0.2, True))),
    "max pool": (3, lambda: nn.MaxPool3d(3, 2, 1)),
    "max pool, ceil": (2, lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True)),
    "max pool, dilated": (1, lambda: nn.MaxPool1d(2, 1, dilation=3)),
    "average pool": (2, lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    "average pool along axes": (3, lambda: nn.AvgPool3d((1, 2, 2))),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("name", LAYERS)
def test_same_output_and_gradient(name: str, samples: int, dtype: torch.dtype) -> None:
    axes, build = LAYERS[name]
    layer = build().to(dtype).eval().requires_grad_(False)
    for buffer in layer.buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer))
    x = torch.randn(samples, 4, *(11, 8, 9)[:axes], dtype=dtype)
    last = {2: torch.channels_last, 3: torch.channels_last_3d}
    for laid in (x, x.to(memory_format=last[axes]) if axes > 1 else x):
        found = []
        for mode in (nullcontext(), Sparing()):
            leaf = laid.clone().requires_grad_()
            with mode:
                output = layer(leaf * 1)
            torch.manual_seed(0)
            found.append(
                (output.detach(), *torch.autograd.grad(output, leaf, torch.randn_like(output)))
            )
        assert torch.equal(found[0][0], found[1][0])
        torch.testing.assert_close(*(each for _, each in found), rtol=1e-5, atol=1e-6)
        if dtype == torch.float64:
            torch.testing.assert_close(*(each for _, each in found), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "padding"), [(7, 3), (3, 0), (4, 1), (1, 0), (5, 4)])
def test_first_layers_gradient(
    axes: int, stride: int, kernel: int, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrow, "_SLAB", 300)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    for channels in (1, 3):
        x = torch.randn(2, channels, *(13, 18, 11)[:axes], dtype=torch.float64, requires_grad=True)
        weight = torch.randn(5, channels, *(kernel,) * axes, dtype=torch.float64)
        output = convolve(x, weight, stride=stride, padding=padding)
        gradient = torch.randn_like(output)
        (expected,) = torch.autograd.grad(output, x, gradient)
        found = narrow.narrow_gradient(
            gradient, weight, x.shape[2:], [stride] * axes, [padding] * axes
        )
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, 0), (1, 0), (2, 1), (3, 2)])
def test_the_gradient_where_torch_would_unroll(axes: int, kernel: int, padding: int) -> None:
    convolve = (F.conv2d, F.conv3d)[axes - 2]
    x = torch.randn(1, 8, *(7, 6, 5)[:axes], requires_grad=True)
    weight = torch.randn(12, 8, *(kernel,) * axes)
    gradient = torch.randn_like(convolve(x, weight, padding=padding))
    beyond = [padding] * axes
    assert turned.pays(gradient, weight, x, [1] * axes, beyond)
    found = turned.turned_gradient(gradient, weight, beyond)
    output = convolve(x.double(), weight.double(), padding=padding)
    (expected,) = torch.autograd.grad(output, x, gradient.double())
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({}, True),
        ({"stride": [1, 2, 1]}, False),
        ({"padding": [3, 1, 1]}, False),  # what is beyond the image would be cut off
        ({"dtype": torch.float64}, False),
        ({"samples": 2, "channels": 24}, False),  # torch takes oneDNN by itself
        ({"samples": 2}, True),  # which is slow where few channels come out
        ({"built": False}, False),
        ({"size": 2}, True),  # 8 cells beside 6 channels
        ({"size": 1}, False),
        ({"size": 1, "kernel": 1, "padding": [0] * 3}, True),
    ],
)
def test_where_the_weights_are_turned(
    change: dict[str, Any], asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"stride": [1] * 3, "padding": [1] * 3, "dtype": torch.float32, "samples": 1} | change
    size, kernel = change.get("size", 9), change.get("kernel", 3)
    x = torch.randn(how["samples"], 4, size, size, size, dtype=how["dtype"])
    weight = torch.randn(change.get("channels", 6), 4, kernel, kernel, kernel, dtype=how["dtype"])
    output = F.conv3d(x, weight, stride=how["stride"], padding=how["padding"])
    monkeypatch.setattr(turned, "_THERE", change.get("built", True))
    assert turned.pays(output, weight, x, how["stride"], how["padding"]) == asked


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (3, 5, 7), (2**20 + 9,)])
def test_bits(shape: tuple[int, ...]) -> None:
    x, gradient = torch.randn(shape), torch.randn(shape)
    x.view(-1)[0] = 0
    bits = pack(x)
    assert bits.numel() == -(-x.numel() // 8)
    assert torch.equal(kept_where_positive(gradient, bits), gradient * (x > 0))


def test_what_others_hold_is_left_to_autograd() -> None:
    # A weight that depends on the image has a gradient of its own.
    def dynamic(x: Tensor) -> Tensor:
        return F.conv1d(x, x.mean(2, keepdim=True).expand(1, 3, 1) * torch.ones(2, 3, 1))

    def written(x: Tensor) -> Tensor:
        x = x * 1
        F.relu_(x[:, :2])
        return x.square()

    for act, channels in ((dynamic, 3), (written, 4)):
        x = torch.randn(1, channels, 9, dtype=torch.float64, requires_grad=True)
        (expected,) = torch.autograd.grad(act(x).sum(), x)
        with Sparing():
            output = act(x)
        assert torch.equal(torch.autograd.grad(output.sum(), x)[0], expected)


@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "deconvnet"])
def test_checkpointed_layers_run_again_without_it(method: str) -> None:
    class Checkpointed(nn.Module):
        def __init__(self, often: bool) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(True))
            self.second = nn.Sequential(nn.Conv3d(4, 4, 3, 2), nn.ReLU(), nn.MaxPool3d(2))
            self.often = often

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            x = checkpoint(self.second, x, use_reentrant=False) if self.often else self.second(x)
            return x.flatten(2).mean(2)

    plain, again = Checkpointed(False).double(), Checkpointed(True).double()
    again.load_state_dict(plain.state_dict())
    x = torch.randn(2, 1, 12, 12, 12, dtype=torch.float64)
    maps = [medsal.explain(net, x, 1, method).data for net in (plain, again)]
    torch.testing.assert_close(*maps)


def test_under_autocast() -> None:
    net = resnet10(n_input_channels=1, num_classes=3, widen_factor=0.2).eval().requires_grad_(False)
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = medsal.explain(net, x, 1, "gradient", channels="sum").data
        leaf = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(net(leaf)[0, 1], leaf)
    assert float((found - expected).norm() / expected.norm()) < 0.05


@contextmanager
def saved() -> Iterator[dict[int, int]]:
    """The bytes that a graph keeps, by the address of what holds them."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield held


def kept(net: nn.Module, ask: Callable[[], Any]) -> int:
    own = {each.untyped_storage().data_ptr() for each in net.parameters()}
    with saved() as held:
        ask()
    return sum(size for address, size in held.items() if address not in own)


@pytest.mark.parametrize(
    ("net", "share"),
    [
        (resnet10(n_input_channels=1, num_classes=3, widen_factor=0.25), 0.08),
        (DenseNet(3, 1, 3, 8, 4, (3, 3)), 0.08),
        # Group norms keep their input.
        (SegResNet(3, 8, 1, 3), 0.6),
    ],
    ids=["resnet", "densenet", "segresnet"],
)
@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "deconvnet"])
def test_few_bytes_are_kept(net: nn.Module, share: float, method: str) -> None:
    x = torch.rand(1, 1, 32, 32, 32)
    frozen = net.eval().requires_grad_(False)
    whole = kept(frozen, lambda: frozen(x.clone().requires_grad_()))
    assert (
        kept(frozen, lambda: medsal.explain(frozen, x, lambda y: y.flatten(1).sum(1), method))
        < share * whole
    )
