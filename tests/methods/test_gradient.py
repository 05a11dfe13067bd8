"""Gradients by voxels: by hand, against captum in float64, and completeness."""

import pytest
import torch
from captum.attr import (
    Deconvolution,
    GradientShap,
    GuidedBackprop,
    GuidedGradCam,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Saliency,
)
from method_nets import Deep, Head, images, probe, seeded
from torch import nn

import medsal
from medsal import METHODS, Smooth
from medsal.methods.baseline import baseline_of
from medsal.methods.noise import noisy
from medsal.ops import smooth

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


class Square(nn.Module):
    """``S = w1 sum_i x_1i^2 + w2 sum_i x_2i^3``: integrals that are known."""

    def forward(self, image):
        first, second = image[:, 0].flatten(1), image[:, 1].flatten(1)
        return (first.square().sum(1) + 2 * second.pow(3).sum(1))[:, None]


IMAGE = torch.tensor([[[1.0, -2, 0.5], [2, 1, -1]]]).double()


def ask(name, net, image=IMAGE, target=1, **options):
    return METHODS[name](**options)(probe(net, target), image)


def total(x):
    """The sum over channels, ``(n, 1, *s)``."""
    return x.sum(1, keepdim=True)


# By hand.


def test_gradients_by_hand():
    # dS/dx is 2 x in the first channel and 6 x^2 in the second.
    assert ask("gradient", Square())[0, 0].tolist() == [24, 6, 6]
    assert ask("gradient", Square(), channels="sum")[0, 0].tolist() == [26, 2, 7]
    assert ask("input_x_gradient", Square())[0, 0].tolist() == [2 + 48, 8 + 6, 0.5 - 6]


def test_integrated_gradients_by_hand():
    # Each voxel alone: from 0 it gains x^2 and 2 x^3.
    found = ask("integrated_gradients", Square(), steps=2)
    assert torch.allclose(found[0, 0], torch.tensor([17.0, 6, -1.75]).double(), **CLOSE)
    # From 1 it gains x^2 - 1 and 2 x^3 - 2.
    found = ask("integrated_gradients", Square(), steps=2, baseline=1)
    assert torch.allclose(found[0, 0], torch.tensor([14.0, 3, -4.75]).double(), **CLOSE)


def test_expected_gradients_by_hand():
    # A linear score: the weights times what the image differs from the references' mean.
    weights = torch.tensor([[1.0, -1, 2], [0, 2, -1]]).double()
    references = torch.tensor([[[0.0, 0, 0], [0, 0, 0]], [[2, 0, 1], [2, 2, 2]]]).double()
    found = ask("expected_gradients", Head(weights[None]), references=references, samples=6)
    expected = (weights * (IMAGE[0] - references.mean(0))).sum(0)
    assert torch.allclose(found[0, 0], expected, **CLOSE)


def test_smoothgrad_by_hand():
    # The gradient of a quadratic score is linear: it sees the noise's mean and variance alone.
    class Quadratic(nn.Module):
        def forward(self, image):
            return image.square().flatten(1).sum(1, keepdim=True) / 2

    copies = torch.stack(list(noisy(IMAGE, 9, 0.3, 5)))
    mean, variance = copies.mean(0), copies.var(0, unbiased=False)
    options = {"samples": 9, "sigma": 0.3, "seed": 5}
    assert torch.allclose(ask("smoothgrad", Quadratic(), **options), total(mean), **CLOSE)
    found = ask("smoothgrad", Quadratic(), form="squared", **options)
    assert torch.allclose(found, total(copies.square().mean(0)), **CLOSE)
    found = ask("smoothgrad", Quadratic(), form="variance", **options)
    assert torch.allclose(found, total(variance), **CLOSE)
    # One normal number for each voxel; its unit is the sample's own range, here 4.
    assert float((copies - IMAGE).std()) == pytest.approx(0.3 * 4, rel=0.3)


class Rectified(nn.Module):
    """``S = w relu(v x)`` for each voxel, so each ReLU's input and gradient are known."""

    def __init__(self, relu):
        super().__init__()
        self.relu = relu

    def forward(self, image):
        weights = torch.tensor([[1.0, -1, 2], [3, 2, -1]]).to(image)
        return (self.relu(image * 1.0) * weights).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(),
        nn.ReLU(True),
        nn.ReLU6(),
        nn.ReLU6(True),
        torch.relu,
        torch.relu_,
        nn.Threshold(0, 0),
        lambda x: x.clamp(min=0),
        lambda x: nn.functional.hardtanh(x, 0, 9),
        lambda x: x.clip(0),
        lambda x: x.clip_(min=0, max=9),
        lambda x: torch.clamp(x, min=torch.zeros((), dtype=x.dtype)),
        lambda x: torch.maximum(x, torch.zeros_like(x)),
        lambda x: torch.max(torch.zeros((), dtype=x.dtype), x),
    ],
)
def test_relu_rules_by_hand(relu):
    # The input is positive at 1, 0.5 and 2, 1; the gradient everywhere but at -1 (twice).
    plain = ask("gradient", Rectified(relu), channels="sum")
    assert plain[0, 0].tolist() == [1 + 3, 2, 2]
    guided = ask("guided_backprop", Rectified(relu))
    assert guided[0, 0].tolist() == [1 + 3, 2, 2]
    deconvnet = ask("deconvnet", Rectified(relu))
    assert deconvnet[0, 0].tolist() == [1 + 3, 2, 2]
    negative = ask("guided_backprop", Rectified(relu), target=0)  # the negated logit
    assert negative[0, 0].tolist() == [0, 0, 0]
    negative = ask("deconvnet", Rectified(relu), target=0)
    assert negative[0, 0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
@pytest.mark.parametrize(
    ("activation", "met"),
    [
        (nn.LeakyReLU(), "LeakyReLU"), (nn.PReLU(), "PReLU"), (nn.ELU(), "ELU"),
        (nn.SELU(), "SELU"),
        (nn.CELU(), "CELU"), (nn.SiLU(), "SiLU"), (nn.GELU(), "GELU"), (nn.Mish(), "Mish"),
        (nn.RReLU(), "RReLU"), (nn.Softplus(), "Softplus"), (nn.Hardswish(), "Hardswish"),
        (nn.Hardshrink(), "Hardshrink"), (nn.Softshrink(), "Softshrink"),
        (nn.Tanhshrink(), "Tanhshrink"), (nn.LogSigmoid(), "LogSigmoid"),
    ],
)  # fmt: skip
def test_other_activations_are_refused(name, activation, met):
    with pytest.raises(ValueError, match=f"defined for ReLU alone; Sequential also has {met}"):
        ask(name, nn.Sequential(nn.ReLU(), activation, Square()).double())


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
@pytest.mark.parametrize("clip", [lambda x: x.clamp(min=0.1), lambda x: x.clamp(-1, 1), nn.Tanh()])
def test_no_relu_is_refused(name, clip):
    class Clipped(Rectified):
        pass

    with pytest.raises(ValueError, match="Clipped has no ReLU"):
        ask(name, Clipped(clip))


# Against captum.


@pytest.fixture(params=[1, 2, 3], ids=lambda axes: f"{axes}d")
def deep(request):
    net = seeded(Deep(request.param))
    plain = seeded(Deep(request.param))
    plain.first[1].inplace = False
    return net, plain, images(request.param)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", [0, 1, 2])
def test_captum_gradients(deep, target):
    net, peer, image = deep

    def check(name, expected, **options):
        assert torch.allclose(ask(name, net, image, target, **options), expected, **CLOSE), name

    signed = Saliency(peer).attribute(image, target, abs=False)
    check("gradient", total(signed), channels="sum")
    check("gradient", signed.abs().amax(1, keepdim=True))
    check("gradient", signed.norm(dim=1, keepdim=True), channels="norm")
    check("input_x_gradient", total(InputXGradient(peer).attribute(image, target).detach()))
    check("guided_backprop", total(GuidedBackprop(peer).attribute(image, target)))
    check("deconvnet", total(Deconvolution(peer).attribute(image, target)))
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[image.ndim]
    peer_map = GuidedGradCam(peer, peer.second).attribute(image, target, interpolate_mode=mode)
    check("guided_gradcam", total(peer_map), layer="second")


@pytest.mark.parametrize(("quadrature", "peer"), [("gauss-legendre", "gausslegendre"),
                                                  ("midpoint", "riemann_middle")])  # fmt: skip
@pytest.mark.parametrize("baseline", [0, 0.7, "tensor"])
def test_captum_integrated_gradients(deep, quadrature, peer, baseline):
    net, plain, image = deep
    start = images(image.ndim - 2, samples=1, seed=9) if baseline == "tensor" else baseline
    given = start.expand_as(image) if baseline == "tensor" else start
    expected = IntegratedGradients(plain).attribute(image, given, 2, n_steps=17, method=peer)
    options = {"steps": 17, "quadrature": quadrature, "baseline": start, "batch": 5}
    found = ask("integrated_gradients", net, image, 2, **options)
    # captum holds the quadrature's weights in float32.
    assert torch.allclose(found, total(expected), rtol=0, atol=1e-6)


def test_captum_noise_tunnel_without_noise(deep):
    net, plain, image = deep
    for form, peer in [
        ("mean", "smoothgrad"),
        ("squared", "smoothgrad_sq"),
        ("variance", "vargrad"),
    ]:
        expected = NoiseTunnel(Saliency(plain)).attribute(
            image, nt_type=peer, nt_samples=3, stdevs=0.0, target=1, abs=False
        )
        found = ask("smoothgrad", net, image, form=form, samples=3, sigma=0)
        assert torch.allclose(found, total(expected), rtol=1e-9, atol=1e-9)


def test_captum_noise_tunnel_with_the_same_noise(deep, monkeypatch):
    net, plain, image = deep
    copies = list(noisy(image, 4, 0.2, 3))
    # captum asks for the noise of all copies of one sample at once, sample by sample.
    drawn = torch.stack([copy - image for copy in copies], 1).flatten(0, 1)
    monkeypatch.setattr(torch, "normal", lambda mean, std: drawn)
    for form, peer in [
        ("mean", "smoothgrad"),
        ("squared", "smoothgrad_sq"),
        ("variance", "vargrad"),
    ]:
        expected = NoiseTunnel(Saliency(plain)).attribute(
            image, nt_type=peer, nt_samples=4, stdevs=1.0, target=1, abs=False
        )
        found = ask("smoothgrad", net, image, form=form, samples=4, sigma=0.2, seed=3, batch=6)
        assert torch.allclose(found, total(expected), rtol=1e-7, atol=1e-10)


def test_captum_gradient_shap_of_a_linear_score():
    weights = torch.tensor([[1.0, -1, 2], [0, 2, -1]]).double()
    reference = torch.tensor([[[1.0, 0, 1], [0, 2, 1]]]).double()
    net = Head(weights[None])
    expected = GradientShap(net).attribute(IMAGE, reference, n_samples=3, stdevs=0.0, target=0)
    found = ask("expected_gradients", net, references=reference, samples=3)
    assert torch.allclose(found, total(expected), **CLOSE)


# What they promise.


@pytest.mark.parametrize("baseline", [0, 0.3, "mean", "blur"])
def test_integrated_gradients_are_complete(deep, baseline):
    net, _, image = deep
    start = baseline_of(image, baseline)
    gained = probe(net)(image) - probe(net)(start)
    found = ask("integrated_gradients", net, image, baseline=baseline, steps=80, batch=40)
    assert torch.allclose(found.flatten(1).sum(1), gained, rtol=2e-2, atol=2e-2)


def test_integrated_gradients_say_when_they_are_not():
    class Late(nn.Module):
        """All of the score comes in the last hundredth of the way."""

        def forward(self, image):
            return ((image.flatten(1).sum(1, keepdim=True) - 5.94).relu()) * 100

    image = torch.ones(1, 1, 6).double()
    few = medsal.explain(Late(), image, 1, "integrated_gradients", steps=4)
    assert "give more steps" in few.notes[0]
    many = medsal.explain(Late(), image, 1, "integrated_gradients", steps=400, batch=100)
    assert many.notes == ()


def test_expected_gradients_of_one_reference_are_integrated_gradients(deep):
    net, _, image = deep
    reference = images(image.ndim - 2, samples=1, seed=4)
    expected = ask("integrated_gradients", net, image, baseline=reference, steps=200, batch=100)
    found = ask("expected_gradients", net, image, references=reference, samples=600, batch=100)
    assert float((found - expected).norm() / expected.norm()) < 0.1


def test_expected_gradients_write_out(deep):
    net, _, image = deep
    references = images(image.ndim - 2, samples=3, seed=4)
    method = METHODS["expected_gradients"](references=references, samples=5, seed=2)
    draws = method._draws(3)
    assert sorted(r for r, _ in draws[:3]) == [0, 1, 2]
    parts = [
        (image - references[r]) * probe(net).gradient(references[r] + a * (image - references[r]))
        for r, a in draws
    ]
    expected = total(torch.stack(parts).mean(0))
    assert torch.allclose(method(probe(net), image), expected, **CLOSE)


def test_smoothgrad_is_smooth_of_the_gradient(deep):
    net, _, image = deep
    options = {"samples": 5, "sigma": 0.2, "seed": 7}
    found = ask("smoothgrad", net, image, **options)
    composed = Smooth(medsal.Gradient(channels="sum"), **options)(probe(net), image)
    assert torch.allclose(found, composed, **CLOSE)
    assert not torch.allclose(found, ask("smoothgrad", net, image, **{**options, "seed": 8}))


def test_small_gradients_do_not_vanish():
    image = (IMAGE * 1e-3).float()
    for name, options in [("smoothgrad", {"form": "squared"}), ("integrated_gradients", {})]:
        found = ask(name, Square(), image, **options)
        assert (found.abs() > 0).all(), name


def test_blur_keeps_constants_and_means():
    x = torch.full((1, 1, 6, 5), 3.0).double()
    assert torch.allclose(smooth(x, [1.5, 0.7]), x)
    point = torch.zeros(1, 1, 41).double()
    point[..., 20] = 1
    blurred = smooth(point, [2.0])[0, 0]
    places = torch.arange(41).double() - 20
    assert float(blurred.sum()) == pytest.approx(1)
    assert float((blurred * places).sum()) == pytest.approx(0, abs=1e-12)
    assert float((blurred * places.square()).sum()) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("integrated_gradients", {"steps": 0}, "steps as a whole number"),
        ("integrated_gradients", {"baseline": "black"}, "baseline as a number"),
        ("smoothgrad", {"samples": 0}, "samples as a whole number"),
        ("smoothgrad", {"sigma": -0.1}, "sigma as a share"),
        ("expected_gradients", {}, "needs references"),
        ("expected_gradients", {"references": torch.zeros(2, 3, 3)}, "like the image"),
        ("integrated_gradients", {"baseline": torch.zeros(2, 3, 4)}, "broadcasts against"),
    ],
)
def test_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        ask(name, Square(), **options)


def test_methods_that_hold_tensors_are_values():
    first = METHODS["integrated_gradients"](baseline=torch.zeros(1, 2, 3))
    same = METHODS["integrated_gradients"](baseline=torch.zeros(1, 2, 3))
    other = METHODS["integrated_gradients"](baseline=torch.ones(1, 2, 3))
    assert first == same
    assert hash(first) == hash(same)
    assert first != other
    assert "baseline=<tensor (1, 2, 3)>" in repr(first)
