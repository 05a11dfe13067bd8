"""Half precision, autocast, and numbers at the edge of what they can hold."""

from typing import Any

import pytest
import torch
from core_nets import Tiny, image
from monai.networks.nets import DenseNet
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import medsal
from medsal import explain

METHODS = ["gradcam", "gradient", "guided_backprop", "guided_gradcam"]


def network() -> nn.Module:
    torch.manual_seed(5)
    model = DenseNet(2, 1, 3, 8, 8, (2, 2)).eval()
    model.class_layers.out.weight.data[0].abs_()  # so that Grad-CAM finds evidence for class 0
    return model


def alike(a: Tensor, b: Tensor) -> float:
    pair = torch.stack([a.flatten(), b.flatten()]).double()
    return float(torch.corrcoef(pair)[0, 1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(method: str, dtype: torch.dtype) -> None:
    model, x = network(), torch.rand(2, 1, 32, 32)
    usual = explain(model, x, 0, method)
    with torch.autocast("cpu", dtype):
        result = explain(model, x, 0, method)
        assert torch.is_autocast_enabled("cpu")
    assert result.data.dtype == torch.float32
    assert alike(result.data, usual.data) > 0.99


@pytest.mark.parametrize("method", [*METHODS, "gradcam++", "scorecam", "occlusion", "smoothgrad"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision(method: str, dtype: torch.dtype) -> None:
    model, x = network(), torch.rand(2, 1, 32, 32)
    options: dict[str, Any] = {"occlusion": {"window": 8}, "smoothgrad": {"samples": 4}}
    usual = explain(model, x, 0, method, **options.get(method, {}))
    result = explain(model.to(dtype), x.to(dtype), 0, method, **options.get(method, {}))
    assert result.data.dtype == torch.float32
    assert alike(result.data, usual.data) > 0.99


class Scaled(nn.Module):
    def __init__(self, net: nn.Module, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.factor


@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e3])
def test_gradients_that_vanish_in_float16(factor: float) -> None:
    """The mean over cells makes gradients near 1e-8, where float16 ends at 6e-8."""
    torch.manual_seed(1)
    model, x = Scaled(Tiny(2), factor), torch.rand(1, 1, 64, 64)
    usual = explain(model, x, 0, signed=True).data
    result = explain(model.half(), x.half(), 0, signed=True)
    assert result.data.any()
    torch.testing.assert_close(result.data, usual, rtol=2e-2, atol=2e-2 * float(usual.abs().max()))


def test_huge_and_tiny_logits() -> None:
    torch.manual_seed(1)
    model, x = Tiny(2).double(), image(2, dtype=torch.float64)
    usual = explain(model, x, 0).data
    for factor in (1e-30, 1e-12, 1e12, 1e30):
        found = explain(Scaled(model, factor), x, 0).data / factor
        torch.testing.assert_close(found, usual, rtol=1e-5, atol=0)


def test_float64_stays_itself() -> None:
    model, x = network().double(), torch.rand(1, 1, 32, 32, dtype=torch.float64)
    probe = medsal.Probe(model, medsal.ClassScore(0))
    assert medsal.GradCAM()(probe, x).dtype == torch.float64
    assert probe.gradient(x).dtype == torch.float64
    assert explain(model, x).data.dtype == torch.float32


def test_a_network_of_tokens_with_its_fast_path() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 4, stride=4)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.conv(x).flatten(2).transpose(1, 2)
            return self.head(self.encoder(tokens).mean(1))

    torch.manual_seed(2)
    model, x = Tokens().double(), torch.rand(2, 1, 16, 16, dtype=torch.float64)
    result = explain(model, x, 1, signed=True)
    assert result.layer == "conv"
    assert result.cells == (4, 4)
    model.eval()
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    found = medsal.Probe(model, medsal.ClassScore(1)).gradient(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)
    guided = medsal.Probe(model, medsal.ClassScore(1)).gradient(x, "guided")
    assert float((guided - expected).abs().max()) > 1e-6


def test_weights_in_buffers_and_complex_ones() -> None:
    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2)
            self.register_buffer("phase", torch.polar(torch.ones(4, 1, 1), torch.rand(4, 1, 1)))
            self.register_buffer("count", torch.zeros(3, dtype=torch.int8))

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            y = torch.fft.ifft2(torch.fft.fft2(self.conv(x)) * self.phase).real
            return self.head(y.mean((2, 3)))

    model, x = Fourier(), image(2)
    assert explain(model, x, 0, signed=True).data.any()
    assert explain(model, x, 0, "gradient").data.any()
    assert not model.count.any()


def test_a_score_that_depends_on_nothing_is_refused() -> None:
    model, x = Tiny(2), image(2)
    constant: Any = lambda output: output.detach()[:, 0]  # noqa: E731
    with pytest.raises(ValueError, match="does not depend on layer 'relu'"):
        explain(model, x, constant)
    with pytest.raises(ValueError, match="does not depend on the image"):
        explain(model, x, constant, "gradient")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_network_that_turns_gradients_off_itself(mode: Any) -> None:
    class Deployed(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            with mode():
                return super().forward(x)

    for method in ("gradcam", "gradient"):
        with pytest.raises(ValueError, match="does not depend"):
            explain(Deployed(2), image(2), 0, method)


def test_frozen_features_under_no_grad() -> None:
    """A backbone that is run without gradients: the head's gradient by its output is there."""

    class Transfer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.backbone(x)
            return self.head(x.mean((2, 3)))

    result = explain(Transfer(), image(2), 0, layer="backbone", signed=True)
    assert result.data.any()


def test_the_fingerprint_sees_every_change() -> None:
    model, x = Tiny(2), image(2)
    first = explain(model, x, 0).model
    assert explain(model, x, 0).model == first
    assert first.parameters == sum(each.numel() for each in model.parameters())
    model.conv.weight.data[0] += 1
    second = explain(model, x, 0).model
    assert second.sha256 != first.sha256
    model.conv.weight.data[0] -= 1
    model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
    assert explain(model, x, 0).model.sha256 != second.sha256


def test_batches_are_exactly_their_samples() -> None:
    """To the last digits that a convolution of more samples rounds otherwise."""
    model, x = network().double(), torch.rand(3, 1, 32, 32, dtype=torch.float64)
    for method in (*METHODS, "gradcam++", "layercam", "xgradcam", "input_x_gradient", "deconvnet"):
        probe = medsal.Probe(model, medsal.ClassScore((2, 0, 1)))
        together = medsal.get_method(method)(probe, x)
        for i, k in enumerate((2, 0, 1)):
            one = medsal.Probe(model, medsal.ClassScore(k))
            alone = medsal.get_method(method)(one, x[i][None])
            torch.testing.assert_close(together[i][None], alone, rtol=1e-9, atol=1e-13)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_checkpointing_of_the_old_kind_is_refused() -> None:
    class Old(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block = nn.Conv2d(1, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.block, self.stem(x).relu(), use_reentrant=True).mean((2, 3))

    model, x = Old(), image(2)
    for method in ("gradient", "guided_backprop", "gradcam"):
        layer = {"layer": "stem"} if method == "gradcam" else {}
        with pytest.raises(ValueError, match="use_reentrant=False"):
            explain(model, x, 0, method, **layer)
    assert explain(model, x, 0, "occlusion", window=6).data.any()


def test_a_network_that_writes_over_its_own_gradient() -> None:
    class Exponential(Tiny):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.exp(self.conv(x))
            return self.head(y.add_(1).mean((2, 3)))

    with pytest.raises(ValueError, match="writes over numbers"):
        explain(Exponential(2), image(2), 0, "gradient")
    assert explain(Exponential(2), image(2), 0, "occlusion", window=6).data.any()
