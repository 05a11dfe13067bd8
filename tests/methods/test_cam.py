"""The CAM family against maps worked by hand, definitions written out, and what they promise."""

import pytest
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from method_nets import Deep, Head, OneReLU, Pooled, Skip, images, probe, seeded
from torch import nn

import medsal
from medsal import METHODS, Probe
from medsal.methods.cam import checked_shift, fused
from medsal.ops import resize
from medsal.regions import Region
from medsal.targets import ClassScore, Difference

CELLS = torch.tensor([[[1.0, 2, 0], [0, 1, 3]]]).double()
GRADIENTS = torch.tensor([[1.0, -1, 2], [0, 2, -1]]).double()
ROUND = 1e-12


def by_hand(name: str, bias: float = 0.0, weights=GRADIENTS, cells=CELLS, **options):
    net = Head(weights[None], bias)
    return METHODS[name](layer="features", **options)(probe(net, 1), cells)[0, 0].tolist()


def test_gradcam_by_hand():
    # The gradients' means are 2/3 and 1/3.
    assert by_hand("gradcam") == pytest.approx([2 / 3, 5 / 3, 1], abs=ROUND)


def test_gradcam_signed_by_hand():
    assert by_hand("gradcam", weights=-GRADIENTS) == [0, 0, 0]
    signed = by_hand("gradcam", weights=-GRADIENTS, signed=True)
    assert signed == pytest.approx([-2 / 3, -5 / 3, -1], abs=ROUND)


def test_gradcam_plus_plus_by_hand():
    # Channel sums 3 and 4: alpha = 1/5 and 1/8 in the first, 1/10 in the second channel, so the
    # weights are 1/5 + 2/8 and 2/10.
    assert by_hand("gradcam++") == pytest.approx([0.45, 1.1, 0.6], abs=ROUND)


def test_gradcam_plus_plus_where_the_denominator_is_zero():
    cells = torch.tensor([[[-2.0, 0], [1, 0]]]).double()
    weights = torch.tensor([[1.0, 1], [1, 0]]).double()
    # 2 + (-2)(1) = 0: alpha is 0, not infinite. The second channel: alpha = 1/3.
    assert by_hand("gradcam++", weights=weights, cells=cells) == pytest.approx([1 / 3, 0])


def test_hirescam_by_hand():
    assert by_hand("hirescam") == [1, 0, -3]
    assert by_hand("hirescam", signed=False) == [1, 0, 0]


def test_layercam_by_hand():
    assert by_hand("layercam") == [1, 2, 0]


def test_xgradcam_by_hand():
    # The weights are (1 - 2) / 3 and (2 - 3) / 4.
    assert by_hand("xgradcam") == [0, 0, 0]
    signed = by_hand("xgradcam", signed=True)
    assert signed == pytest.approx([-1 / 3, -11 / 12, -3 / 4], abs=ROUND)


def test_xgradcam_of_a_channel_that_sums_to_zero():
    cells = torch.tensor([[[1.0, -1, 0], [0, 1, 3]]]).double()
    signed = by_hand("xgradcam", cells=cells, signed=True)
    assert signed == pytest.approx([0, -1 / 4, -3 / 4], abs=ROUND)


def test_cam_by_hand():
    # Mean pooling over 3 cells and the linear weights 2 and -1.
    weights = torch.tensor([[2.0, 2, 2], [-1, -1, -1]]).double() / 3
    assert by_hand("cam", weights=weights, bias=7) == pytest.approx([2, 3, -3], abs=ROUND)


def test_eigencam_by_hand():
    # One direction (1, 2) / sqrt(5) in the space of channels.
    cells = torch.tensor([[[1.0, 2, 0], [2, 4, 0]]]).double()
    root = 5**0.5
    assert by_hand("eigencam", cells=cells) == pytest.approx([root, 2 * root, 0], abs=1e-9)
    assert by_hand("eigencam", cells=-cells) == pytest.approx([root, 2 * root, 0], abs=1e-9)
    assert by_hand("eigencam", cells=0 * cells) == [0, 0, 0]


def test_scorecam_by_hand():
    # Seen through the channels' masks (1/2, 1, 0) and (0, 1/3, 1) the scores are 1/2 and -3.
    none = by_hand("scorecam", bias=10, softmax=False, signed=True)
    assert none == pytest.approx([0.5, -2, -9], abs=ROUND)
    first, second = torch.tensor([0.5, -3]).double().softmax(0).tolist()
    expected = [first, 2 * first + second, 3 * second]
    assert by_hand("scorecam", bias=10) == pytest.approx(expected, abs=ROUND)


def test_scorecam_of_a_constant_channel():
    cells = torch.tensor([[[1.0, 2, 0], [5, 5, 5]]]).double()
    found = by_hand("scorecam", cells=cells, softmax=False, signed=True)
    score = 0.5 * 1 - 2 + 2 * 5  # through the first channel's mask (1/2, 1, 0); 0 through the other
    assert found == pytest.approx([score, 2 * score, 0], abs=ROUND)


@pytest.mark.parametrize(
    ("divide", "bias", "weights"),
    [
        ("score", 3, (-1, -1)),  # S = 1, without either channel 2
        ("score", -1, (1 / 3, 1 / 3)),  # S = -3, without either channel -2
        ("magnitude", -1, (-1 / 3, -1 / 3)),
        ("none", -1, (-1, -1)),
        ("norm", -1, (-1 / 5**0.5, -1 / 10**0.5)),
        ("score", 2, (-1, -1)),  # S = 0: nothing is divided by 0
    ],
)
@pytest.mark.parametrize("batch", [1, 8])
def test_ablationcam_by_hand(divide, bias, weights, batch):
    found = by_hand("ablationcam", bias, divide=divide, signed=True, batch=batch)
    expected = weights[0] * CELLS[0, 0] + weights[1] * CELLS[0, 1]
    assert found == pytest.approx(expected.tolist(), abs=ROUND)


def test_ablationcam_of_a_negative_score_says_so():
    result = medsal.explain(Head(GRADIENTS[None], -1), CELLS, 1, "ablationcam", layer="features")
    assert "negative score" in result.notes[0]


# What they promise.


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_sums_of_hirescam_and_xgradcam(axes):
    net, image = seeded(Deep(axes)), images(axes)
    (tap,) = probe(net).taps(image, ["second"])
    expected = (tap.activations * tap.gradients[0]).flatten(1).sum(1)
    for name in ("hirescam", "xgradcam"):
        method = METHODS[name](layer="second", signed=True)
        coarse = method.coarse(probe(net), image, tap)
        assert torch.allclose(coarse.flatten(1).sum(1), expected, rtol=1e-10)


def test_hirescam_and_cam_sum_to_the_score_of_a_linear_head():
    net, image = seeded(Pooled()), images(channels=1)
    scores = probe(net)(image) - net.linear.bias[1].detach()
    (tap,) = probe(net).taps(image, ["features"])
    hires = METHODS["hirescam"]().coarse(probe(net), image, tap)
    assert torch.allclose(hires.flatten(1).sum(1), scores, rtol=1e-10)
    cam = METHODS["cam"]().coarse(probe(net), image, tap)
    assert torch.allclose(cam.flatten(1).mean(1), scores, rtol=1e-10)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_cam_uses_the_linear_layer(axes):
    net, image = seeded(Pooled(axes)), images(axes, channels=1)
    features = net.features(image).detach()
    for k in range(3):
        weights = net.linear.weight[k].detach().reshape(1, -1, *(1 for _ in range(axes)))
        expected = resize((weights * features).sum(1, keepdim=True), image.shape[2:])
        assert torch.allclose(METHODS["cam"]()(probe(net, k), image), expected, atol=1e-12)


class BiasFree(nn.Module):
    """Pooled, then two layers without bias: the score is as steep as the line, yet not linear."""

    def __init__(self):
        super().__init__()
        self.features = nn.Identity()
        self.hidden = nn.Linear(2, 4, bias=False)
        self.last = nn.Linear(4, 2, bias=False)

    def forward(self, image):
        return self.last(self.hidden(self.features(image).flatten(2).mean(2)).relu())


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Head(GRADIENTS[None]), "differs from cell to cell"),
        (seeded(BiasFree()), "not linear in the pooled activations"),
    ],
)
def test_cam_refuses_other_heads(net, message):
    with pytest.raises(ValueError, match=message):
        METHODS["cam"](layer="features")(probe(net), CELLS)


@pytest.mark.parametrize("bias", [0, 1e3])
def test_cam_beside_a_large_bias(bias):
    """It hides neither a linear head nor one that is not."""
    image = images(channels=2).float()

    class Curved(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Identity()

        def forward(self, x):
            return self.features(x).flatten(2).mean(2).exp() + bias

    with pytest.raises(ValueError, match="not linear"):
        METHODS["cam"](layer="features")(probe(Curved()), image)
    straight = Head(torch.ones(2, 2, 1, 1), bias)
    assert METHODS["cam"](layer="features")(probe(straight), image).isfinite().all()


def test_cam_refuses_a_softmax_score_and_takes_a_difference():
    net, image = seeded(Pooled()), images(channels=1)
    with pytest.raises(ValueError, match="not linear"):
        METHODS["cam"]()(Probe(net, ClassScore(1, activation="softmax")), image)
    both = METHODS["cam"]()(probe(net, 0, 2), image)
    found = METHODS["cam"]()(Probe(net, Difference(0, 2)), image)
    assert torch.allclose(found, both[:, :1] - both[:, 1:], atol=1e-12)


# Independent definitions.


def test_captum_agrees_in_float64():
    net, image = seeded(Deep(3)), images(3)
    net.first[1].inplace = False  # captum needs it
    for k in range(3):
        size = image.shape[2:]
        expected = resize(LayerGradCam(net, net.second).attribute(image, k).detach().relu(), size)
        found = METHODS["gradcam"](layer="second")(probe(net, k), image)
        assert torch.allclose(found, expected, atol=1e-12)
        product = LayerGradientXActivation(net, net.second).attribute(image, k).detach()
        expected = resize(product.sum(1, keepdim=True), size)
        found = METHODS["hirescam"](layer="second")(probe(net, k), image)
        assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_eigencam_is_the_first_singular_direction(axes):
    net, image = seeded(Deep(axes)), images(axes)
    features = net.second(net.first(image)).detach()
    for i, sample in enumerate(features):
        cells = sample.flatten(1).T
        left, values, _ = torch.linalg.svd(cells, full_matrices=False)
        expected = (left[:, 0] * values[0]).reshape(sample.shape[1:])
        expected = expected * expected.sum().sign()
        found = METHODS["eigencam"](layer="second")(probe(net), image)[i : i + 1]
        assert torch.allclose(found, resize(expected[None, None], image.shape[2:]), atol=1e-9)


def test_eigencam_of_more_channels_than_cells():
    cells = torch.randn(1, 7, 3, generator=torch.Generator().manual_seed(0)).double()
    left, values, _ = torch.linalg.svd(cells[0].T, full_matrices=False)
    expected = left[:, 0] * values[0]
    weights = torch.ones(1, 7, 3).double()
    found = METHODS["eigencam"](layer="features")(probe(Head(weights)), cells)[0, 0]
    assert torch.allclose(found, expected * expected.sum().sign(), atol=1e-9)


@pytest.mark.parametrize("batch", [1, 3, 64])
@pytest.mark.parametrize(("make", "layer"), [(Deep, "second"), (Deep, "first")])
def test_ablationcam_is_the_net_without_a_channel(make, layer, batch):
    net, image = seeded(make()), images()
    with torch.no_grad():
        first = net.first(image)
        features = first if layer == "first" else net.second(first)

        def score(x):
            pooled = (net.second(x) if layer == "first" else x).flatten(2).square().mean(2)
            return net.last(net.hidden(pooled))[:, [0, 1]]

        whole = score(features)
        expected = 0
        for k in range(features.shape[1]):
            without = features.clone()
            without[:, k] = 0
            weights = ((whole - score(without)) / whole)[:, :, None, None]
            expected = expected + weights * features[:, k : k + 1]
    found = METHODS["ablationcam"](layer=layer, batch=batch)(probe(net, 0, 1), image)
    assert torch.allclose(found, resize(expected.relu(), image.shape[2:]), atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_ablationcam_at_a_shared_activation_changes_its_last_call_on_the_grid(axes, batch):
    net, image = seeded(OneReLU(axes)), images(axes)
    with torch.no_grad():
        features = net.features(image)
        expected = 0
        for k in range(features.shape[1]):
            without = features.clone()
            without[:, k] = 0
            loss = (net.head(features) - net.head(without))[:, :1]
            expected = expected + loss.reshape(-1, *[1] * (axes + 1)) * features[:, k : k + 1]
    method = METHODS["ablationcam"](layer="relu", batch=batch, divide="none", signed=True)
    found = method(probe(net, 0), image)
    assert torch.allclose(found, resize(expected, image.shape[2:]), atol=1e-12)


@pytest.mark.parametrize("batch", [2, 8])
def test_ablationcam_with_a_skip_connection(batch):
    net, image = seeded(Skip()), images(channels=1)
    target = Region(1).settled(net(image))
    one = METHODS["ablationcam"](layer="first", batch=1)(Probe(net, target), image)
    many = METHODS["ablationcam"](layer="first", batch=batch)(Probe(net, target), image)
    assert torch.allclose(one, many, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_scorecam_is_algorithm_1(axes):
    net, image = seeded(Deep(axes)), images(axes)
    with torch.no_grad():
        features = net.second(net.first(image))
        masks = resize(features, image.shape[2:])
        spread = tuple(range(2, masks.ndim))
        low, high = masks.amin(spread, keepdim=True), masks.amax(spread, keepdim=True)
        masks = (masks - low) / torch.where(high > low, high - low, 1)
        seen = [net(image * masks[:, k : k + 1])[:, 1] for k in range(features.shape[1])]
        weights = torch.stack(seen, 1).softmax(1)
        weights = weights.reshape(*weights.shape, *(1 for _ in spread))
        expected = (weights * features).sum(1, keepdim=True).relu()
    found = METHODS["scorecam"](layer="second", batch=3)(probe(net), image)
    assert torch.allclose(found, resize(expected, image.shape[2:]), atol=1e-12)


# Several layers.


def test_layers_are_fused_by_tanh_and_maximum():
    first = torch.tensor([[[0.0, 1, 4]]])
    second = torch.tensor([[[3.0, 0, 1]]])
    expected = torch.tensor([[[2.0, 0.5, 2]]]).tanh()
    assert torch.allclose(fused([first, second]), expected)
    assert torch.equal(fused([first, 0 * second]), fused([first]))
    signed = torch.tensor([[[-4.0, 0, 0]]])
    assert torch.allclose(fused([signed, second]), torch.tensor([[[-2.0, 0, 2 / 3]]]).tanh())


def test_several_layers():
    net, image = seeded(Deep(3)), images(3)
    alone = [
        METHODS["layercam"](layer=each)(probe(net, 0, 2), image) for each in ("first", "second")
    ]
    result = medsal.explain(net, image, [0, 2], "layercam", layer=["first", "second"])
    assert torch.allclose(result.data.double(), fused(alone), atol=1e-6)
    assert result.layer == ("first", "second")
    assert hash(result.method) == hash(METHODS["layercam"](layer=("first", "second")))


def test_scorecam_asks_once_for_all_constant_channels():
    class Dead(Pooled):
        def forward(self, image):
            self.calls = getattr(self, "calls", 0) + len(image)
            return super().forward(image)

    net, image = Dead(2, channels=2), images()[:1]
    with torch.no_grad():
        net.features[0].bias[:3] = -1e3
    seeded_net = net.double().eval()
    found = METHODS["scorecam"](layer="features", softmax=False)(probe(seeded_net), image)
    # The taps, two channels, the baseline.
    assert seeded_net.calls == 4
    assert found.isfinite().all()


@pytest.mark.parametrize(("layer", "error"), [([], ValueError), ("", TypeError)])
def test_layers_that_are_none(layer, error):
    with pytest.raises(error, match="expected"):
        METHODS["gradcam"](layer=layer)


# Numbers.


@pytest.mark.parametrize(
    "name", ["gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "cam"]
)
@pytest.mark.parametrize("size", [1e-8, 1e-15])
def test_small_gradients_do_not_vanish(name, size):
    net, image = seeded(Pooled(3)).float(), images(3, channels=1).float()
    small = seeded(Pooled(3)).float()
    with torch.no_grad():
        small.linear.weight.mul_(size)
        small.linear.bias.mul_(size)
    method = METHODS[name](signed=True)
    large, tiny = method(probe(net), image), method(probe(small), image) / size
    # The share that Grad-CAM++ gives to each cell tends to 1/2 as gradients vanish.
    if name == "gradcam++":
        (tap,) = probe(net).taps(image)
        weights = tap.gradients[0].relu().flatten(2).sum(2) / 2
        coarse = (weights.reshape(2, 4, 1, 1, 1) * tap.activations).sum(1, keepdim=True)
        large = resize(coarse, image.shape[2:])
    assert torch.allclose(tiny, large, rtol=1e-3, atol=1e-4 * float(large.abs().max()))


def test_a_score_of_1000_does_not_overflow():
    net, image = seeded(Pooled()).float(), images(channels=1).float()
    with torch.no_grad():
        net.linear.bias.add_(1000)
    for name in ("gradcam++", "scorecam", "ablationcam"):
        assert METHODS[name]()(probe(net), image).isfinite().all()


@pytest.mark.parametrize(
    ("name", "options"),
    [("ablationcam", {"divide": "S"}), ("scorecam", {"batch": 0}), ("ablationcam", {"batch": 2.5})],
)
def test_options_are_refused(name, options):
    with pytest.raises((ValueError, TypeError)):
        METHODS[name](**options)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_shift_moves_the_map(axes):
    net, image = seeded(Deep(axes)), images(axes)
    plain = METHODS["gradcam"](layer="second")(probe(net), image)
    for none in (None, [0] * axes, (0.0,) * axes):
        same = METHODS["gradcam"](layer="second", shift=none)(probe(net), image)
        assert torch.equal(same, plain)
    moved = METHODS["gradcam"](layer="second", shift=[2, *[0] * (axes - 1)])(probe(net), image)
    assert torch.allclose(moved[:, :, 2:], plain[:, :, :-2], rtol=1e-9, atol=1e-12)
    ramp = torch.arange(4.0, dtype=torch.float64).reshape(1, 1, 4, *[1] * (axes - 1))
    cells = ramp.expand(1, 1, *[4] * axes)
    found = resize(cells, [8] * axes, [0.5] * axes)
    assert found[(0, 0, slice(None), *[0] * (axes - 1))].tolist() == [
        0, 0, 0.5, 1, 1.5, 2, 2.5, 3,
    ]  # fmt: skip


def test_a_shift_is_checked_and_kept():
    method = METHODS["scorecam"](shift=[1, 2.5])
    assert method == METHODS["scorecam"](shift=(1.0, 2.5))
    assert hash(method) == hash(METHODS["scorecam"](shift=(1.0, 2.5)))
    with pytest.raises(TypeError, match="one number for each axis"):
        checked_shift(2)
    with pytest.raises(ValueError, match="finite"):
        METHODS["gradcam"](shift=[float("nan")])
    net, image = seeded(Deep(2)), images(2)
    with pytest.raises(ValueError, match="a shift of 2 numbers"):
        METHODS["gradcam"](shift=[1.0])(probe(net), image)
