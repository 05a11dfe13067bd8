"""The maps are right: by hand, against ordinary autograd in float64, and against captum."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop as CaptumGuidedBackprop
from captum.attr import GuidedGradCam, LayerAttribution, LayerGradCam
from core_nets import CONV, Nasty, Residual, Segmenter, Tiny, image, spatial
from monai.networks import nets
from torch import Tensor, nn

import medsal
from medsal import ClassScore, GradCAM, Gradient, GuidedBackprop, GuidedGradCAM, Probe

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
Score = Callable[[Any], Tensor]


def first_class(output: Any) -> Tensor:
    output = output[0] if isinstance(output, tuple | list) else output
    return output[:, 1] if output.ndim == 2 else output[:, 1].flatten(1).sum(1)


def same(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    b = b.detach()
    assert a.shape == b.shape
    assert a.dtype == torch.float64
    assert float((a - b).abs().max()) <= tolerance * float(b.abs().max()), (a - b).abs().max()
    assert float(b.abs().max()) > 0


# Definitions, written out with ordinary autograd.


def gradients_at(net: nn.Module, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """A layer's last output and the gradient by it, from the graph of the whole network."""
    seen: list[Tensor] = []
    zeros: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        # What is added to the output has the output's gradient.
        zeros.append(torch.zeros_like(output, requires_grad=True))
        seen.append(output.detach().clone())
        return output + zeros[-1]

    handle = net.get_submodule(layer).register_forward_hook(hook)
    (gradient,) = torch.autograd.grad(first_class(net(x.clone())).sum(), zeros[-1:])
    handle.remove()
    return seen[-1], gradient


def gradcam(net: nn.Module, x: Tensor, layer: str, signed: bool = True) -> Tensor:
    activations, gradients = gradients_at(net, x, layer)
    weights = gradients.flatten(2).mean(2)
    coarse = torch.einsum("nk,nk...->n...", weights, activations)[:, None]
    coarse = coarse if signed else coarse.clamp(min=0)
    return F.interpolate(coarse, x.shape[2:], mode=MODES[x.ndim - 2], align_corners=False)


class Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * (x > 0) * (g > 0)


def gradient(net: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(first_class(net(leaf.clone())).sum(), leaf)[0]


def guided(net: nn.Module, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Every ReLU replaced, by name, where networks call it."""
    for owner, name in (
        (F, "relu"), (F, "relu_"), (torch, "relu"), (torch, "relu_"), (Tensor, "relu"),
        (Tensor, "relu_"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, lambda x, inplace=False: Guided.apply(x))
    found = gradient(net, x)
    monkeypatch.undo()
    return found


class ReLUs(nn.Module):
    """Every way to write a ReLU."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(CONV[d](1 if i == 0 else 4, 4, 3, padding=1) for i in range(7))
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        ways = (
            self.act,
            F.relu,
            torch.relu,
            Tensor.relu,
            F.relu_,
            partial(F.relu, inplace=True),
            self.act,
        )
        for conv, relu in zip(self.convs, ways, strict=True):
            x = relu(conv(x))
        return self.head(x.mean(spatial(x)))


class Modified(nn.Module):
    """The layer's output is written to afterwards, and part of it is a view."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layer = CONV[d](1, 6, 3, padding=1)
        self.views = Halves()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        y.mul_(2).add_(1)
        y = self.views(y)
        y.relu_()
        return self.head((y + y).mean(spatial(y)))


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 3:]


class Twice(nn.Module):
    """One layer called three times: its last call counts."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.stem = CONV[d](1, 4, 1)
        self.layer = CONV[d](4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = self.layer(x).relu()
        return self.head(x.mean(spatial(x)))


HAND: dict[str, tuple[Callable[[int], nn.Module], str]] = {
    "nasty last": (Nasty, "last"),
    "nasty block": (Nasty, "block"),
    "nasty checkpointed": (Nasty, "again"),
    "nasty inside": (Nasty, "again.norm"),
    "nasty shared activation": (Nasty, "block.act"),
    "modified": (Modified, "layer"),
    "view": (Modified, "views"),
    "twice": (Twice, "layer"),
    "relus": (ReLUs, "convs.2"),
    "segmenter": (Segmenter, "encoder"),
}


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("name", HAND)
def test_hand_made(name: str, d: int) -> None:
    torch.manual_seed(3)
    build, layer = HAND[name]
    model = build(d).double().train()
    x = image(d, dtype=torch.float64)
    result = GradCAM(layer=layer, signed=True)(Probe(model, first_class), x)
    rectified = GradCAM(layer=layer)(Probe(model, first_class), x)
    voxels = Gradient(channels="sum")(Probe(model, first_class), x)
    model.eval()
    same(result, gradcam(model, x, layer))
    torch.testing.assert_close(rectified, gradcam(model, x, layer, signed=False), rtol=1e-9, atol=0)
    same(voxels, gradient(model, x).sum(1, keepdim=True))


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("build", [ReLUs, Nasty, Segmenter], ids=lambda build: build.__name__)
def test_guided_by_hand(build: Any, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    model, x = build(d).double().eval(), image(d, dtype=torch.float64)
    ours = GuidedBackprop()(Probe(model, first_class), x)
    theirs = guided(model, x, monkeypatch).sum(1, keepdim=True)
    same(ours, theirs)
    assert float((ours - gradient(model, x).sum(1, keepdim=True)).abs().max()) > 1e-6


def resnet18() -> nn.Module:
    return nets.resnet18(n_input_channels=1, num_classes=3, widen_factor=0.125)


def unet() -> nn.Module:
    return nets.UNet(3, 1, 3, (4, 8, 8), (2, 2), num_res_units=1, act="RELU")


def efficientnet() -> nn.Module:
    return nets.EfficientNetBN(
        "efficientnet-b0", False, spatial_dims=2, in_channels=1, num_classes=3
    )


def dynunet() -> nn.Module:
    return nets.DynUNet(3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8])


# How to build it, the image's size, the layer, and whether guided backpropagation is defined.
MONAI: dict[str, tuple[Callable[[], nn.Module], int, str, bool]] = {
    "densenet": (
        lambda: nets.DenseNet121(2, 1, 3, block_config=(2, 2, 4, 2)),
        64,
        "features",
        True,
    ),
    "densenet 3D": (lambda: nets.DenseNet(3, 1, 3, 8, 4, (2, 2)), 20, "features", True),
    "resnet18": (resnet18, 33, "layer4", True),
    "resnet18 inside": (resnet18, 24, "layer3.0.bn2", True),
    "seresnet": (lambda: nets.SEResNet50(spatial_dims=2, in_channels=1), 40, "layer4", True),
    "unet": (unet, 16, "model.1.submodule.1", True),
    "segresnet": (lambda: nets.SegResNet(3, 8, 1, 3), 16, "down_layers.2", True),
    "efficientnet": (efficientnet, 64, "_conv_head", False),
    "dynunet": (dynunet, 16, "bottleneck", False),
}


@pytest.mark.parametrize("name", MONAI)
def test_networks_of_monai(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, size, layer, has_relu = MONAI[name]
    model = build().double().train()
    d = 2 if any(isinstance(each, nn.Conv2d) for each in model.modules()) else 3
    x = torch.rand(1, 1, *(size,) * d, dtype=torch.float64)
    probe = Probe(model, first_class)
    cam, voxels = GradCAM(layer=layer, signed=True)(probe, x), probe.gradient(x)
    both = GuidedGradCAM(layer=layer).attributions(probe, x) if has_relu else None
    model.eval()
    same(cam, gradcam(model, x, layer))
    same(voxels, gradient(model, x), 1e-9)
    if both is None:
        with pytest.raises(ValueError, match="ReLU"):
            probe.gradient(x, "guided")
    else:
        same(
            both[:, 0], guided(model, x, monkeypatch) * gradcam(model, x, layer, signed=False), 1e-9
        )


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
def test_captum_agrees() -> None:
    class Modules(nn.Sequential):
        pass

    model = Modules(
        nn.Conv3d(1, 4, 3), nn.ReLU(), nn.Conv3d(4, 6, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 3),
    ).double().eval()  # fmt: skip
    x = torch.rand(2, 1, 11, 12, 13, dtype=torch.float64)
    probe, leaf = Probe(model, ClassScore(1)), x.clone().requires_grad_()
    peer = LayerGradCam(model, model[2]).attribute(x, 1, relu_attributions=True)
    same(
        GradCAM(layer="2")(probe, x),
        LayerAttribution.interpolate(peer, x.shape[2:], "trilinear"),
        1e-6,
    )
    same(probe.gradient(x, "guided"), CaptumGuidedBackprop(model).attribute(leaf, 1), 1e-6)
    both = GuidedGradCam(model, model[2]).attribute(leaf, 1, interpolate_mode="trilinear")
    same(GuidedGradCAM(layer="2").attributions(probe, x)[:, 0], both, 1e-6)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_worked_by_hand(d: int) -> None:
    """Channels 2x and -x: the second is never active. Grad-CAM of class 0 is relu(3/N * 2x)."""
    model, x = Tiny(d), image(d)
    model.conv.weight.data = torch.tensor([2.0, -1.0]).reshape(model.conv.weight.shape)
    model.head.weight.data = torch.tensor([[3.0, 5.0], [-3.0, 1.0]])
    cells = x[0, 0].numel()
    result = medsal.explain(model, x, [0, 1])
    assert result.layer == "relu"
    torch.testing.assert_close(result.data[:, :1], 3 / cells * 2 * x)
    assert not result.data[:, 1].any()
    assert "empty map (sample 0 target 1, sample 1 target 1)" in result.notes[0]
    voxels = medsal.explain(model, x, 1, "gradient", channels="sum")
    torch.testing.assert_close(voxels.data, torch.full_like(x, -6 / cells))
    assert not medsal.explain(model, x, 1, "guided_backprop").data.any()


def test_residual_blocks_and_several_layers() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1),
        Residual(2, nn.ReLU(inplace=True)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    model.double().eval()
    x = image(2, dtype=torch.float64)
    taps = Probe(model, first_class).taps(x, ["0", "1", "1.norm"])
    for tap in taps:
        activations, gradients = gradients_at(model, x, tap.layer)
        same(tap.activations, activations)
        same(tap.gradients[0], gradients)
