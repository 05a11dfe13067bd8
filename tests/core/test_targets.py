"""Targets: what is asked of an output, fixed at the clean image, one sample at a time."""

from typing import Any

import pytest
import torch
from core_nets import Nasty, Outputs, Segmenter, Tiny, image
from torch import Tensor, nn

import medsal
from medsal import ClassScore, Difference, Positive, Region, explain, regions
from medsal.outputs import covered_by, won_by
from medsal.targets import as_target, settle

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [5.0, 4.0, -1.0]])
ONE = torch.tensor([[-2.0], [3.0]])
VOXELS = torch.tensor([[[[0.0, 3.0], [0.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]]]] * 2)
VOXELS[1, 1] += 3


def scores(target: Any, output: Any) -> list[float]:
    asked = as_target(target)
    assert not isinstance(asked, tuple)
    settled = settle(asked, output)
    assert torch.equal(settled(output), asked(output))
    return [round(each, 4) for each in settled(output).tolist()]


@pytest.mark.parametrize(
    ("target", "output", "expected"),
    [
        (None, LOGITS, [3, 5]),
        (2, LOGITS, [2, -1]),
        (ClassScore([0, 2]), LOGITS, [1, -1]),
        (ClassScore(torch.tensor([0, 2])), LOGITS, [1, -1]),
        (torch.tensor(1), LOGITS, [3, 4]),
        (ClassScore(1, "softmax"), LOGITS, LOGITS.softmax(1)[:, 1].tolist()),
        (ClassScore(1, "sigmoid"), LOGITS, LOGITS.sigmoid()[:, 1].tolist()),
        (None, ONE, [2, 3]),
        (1, ONE, [-2, 3]),
        (0, ONE, [2, -3]),
        (0, ONE[:, 0], [2, -3]),
        (0, ONE[:, :, None, None], [2, -3]),
        (ClassScore(0, "sigmoid"), ONE, [0.8808, 0.0474]),
        (Difference(1, 2), LOGITS, [1, 5]),
        (Difference(None, ClassScore([0, 1])), LOGITS, [2, 1]),
        (None, (LOGITS, None), [3, 5]),
        (None, [[LOGITS], 1], [3, 5]),
        (lambda output: output["a"][:, 0], {"a": LOGITS}, [1, 5]),
        (1, VOXELS, [2, 16]),
        (None, VOXELS, [2, 16]),
        (Region(1), VOXELS, [2, 16]),
        (Region([0, 1], torch.ones(2, 2)), VOXELS, [6, 16]),
        (Region(0, torch.eye(2).bool()), VOXELS, [3, 3]),
        (Region(0, torch.ones(2, 2, 2)), VOXELS, [6, 6]),
        (Region(0, torch.ones(2, 1, 2, 2)), VOXELS, [6, 6]),
        (Region(1, torch.ones(2, 2), "sigmoid"), VOXELS, [2.9242, 3.9281]),
        (Region(0), VOXELS[:, :1], [6, 6]),
    ],
)
def test_scores(target: Any, output: Any, expected: list[float]) -> None:
    assert scores(target, output) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("target", "output", "error", "said"),
    [
        (3, LOGITS, LookupError, r"3 classes \(0 to 2\), got class 3"),
        (-1, LOGITS, LookupError, "got class -1"),
        (2, ONE, LookupError, "2 classes"),
        (ClassScore([0, 1, 2]), LOGITS, ValueError, "one class or 2"),
        (Region(0, torch.ones(3, 3)), VOXELS, ValueError, r"\(2, 2\)"),
        (Region(0, torch.ones(3, 2, 2)), VOXELS, ValueError, r"\(2, 2\)"),
        (Region(0, torch.zeros(2, 2)), VOXELS, ValueError, "empty"),
        (
            Region(0, torch.tensor([[[1, 1], [1, 1]], [[0, 0], [0, 0]]])),
            VOXELS,
            ValueError,
            "empty",
        ),
        (Region(0), VOXELS, ValueError, "wins at no voxel"),
        (Region(0), LOGITS, ValueError, "ClassScore"),
        (None, -VOXELS[:, :1] - 1, ValueError, "no foreground"),
        (0, {"logits": LOGITS}, TypeError, "logits"),
        (0, LOGITS.sum(), ValueError, "axis of samples"),
        (ClassScore(0, "softmax"), ONE, ValueError, "sigmoid"),
    ],
)
def test_refusals(target: Any, output: Any, error: type[Exception], said: str) -> None:
    asked = as_target(target)
    assert not isinstance(asked, tuple)
    with pytest.raises(error, match=said):
        asked(output)


@pytest.mark.parametrize("bad", ["cat", 1.5, True, [], [[]], {"a": 1}, object()])
def test_what_is_no_target(bad: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="expected"):
        as_target(bad)


def test_half_precision_sums_do_not_overflow() -> None:
    logits = torch.full((1, 1, 64, 64), 60.0, dtype=torch.float16)
    assert Region(0)(logits).item() == 60 * 64 * 64


def test_the_predicted_class_is_fixed_at_the_clean_image() -> None:
    model, x = Nasty(2), image(2)
    seen: list[Any] = []

    def method(probe: medsal.Probe, x: Tensor) -> Tensor:
        seen.append(probe.target)
        assert torch.equal(probe(-x), probe(-x.clone()))
        return x[:, :1]

    result = explain(model, x, method=method)
    predicted = result.output.argmax(1).tolist()
    assert result.target == ClassScore(predicted)
    assert seen == [ClassScore(predicted)]
    assert explain(model, x).target == ClassScore(predicted)


@pytest.mark.parametrize("method", ["gradcam", "gradient"])
def test_several_targets_from_one_pass_are_each_alone(method: str) -> None:
    model, x = Nasty(2).double(), image(2, dtype=torch.float64)
    targets = [0, None, Difference(1, 0), ClassScore([2, 1]), lambda output: output.sum(1)]
    together = explain(model, x, targets, method)
    assert together.data.shape == (2, 5, 12, 14)
    for j, target in enumerate(targets):
        torch.testing.assert_close(
            together.data[:, j : j + 1], explain(model, x, target, method).data
        )


@pytest.mark.parametrize(
    "target",
    [None, 1, Difference(None, ClassScore([1, 2])), ClassScore([0, 2]), [0, None]],
    ids=repr,
)
def test_one_sample_of_a_result(target: Any) -> None:
    model, x = Nasty(2).double(), image(2, n=2, dtype=torch.float64)
    result = explain(model, x, target)
    for i in (0, 1, -1):
        part = result[i]
        assert len(part) == 1
        again = explain(
            model, x[i][None], list(part.targets) if isinstance(target, list) else part.target
        )
        torch.testing.assert_close(again.data, part.data, rtol=1e-5, atol=1e-12)
        assert torch.equal(part.output, result.output[i][None])
        for each in part.targets:
            assert each(part.output).shape == (1,)
    with pytest.raises(IndexError):
        result[2]


def test_one_sample_of_a_segmentation() -> None:
    model, x = Segmenter(2), image(2)
    mask = torch.zeros(2, 12, 14)
    mask[0, :3], mask[1, 5:] = 1, 1
    for target in (
        None,
        Region(1, mask),
        Region([0, 1], mask),
        Region(2, mask[0]),
        Difference(Region(1, mask), Region(0, mask)),
    ):
        result = explain(model, x, target)
        for i in range(2):
            again = explain(model, x[i][None], result[i].target)
            torch.testing.assert_close(again.data, result[i].data, rtol=1e-4, atol=1e-7)


def test_outputs_of_other_kinds() -> None:
    x = image(2)
    torch.manual_seed(3)
    plain = explain(Outputs(2, lambda y: y), x, 1)
    for wrap in (lambda y: (y, None), lambda y: [y, y + 1], lambda y: (y, {"more": [y]})):
        torch.manual_seed(3)
        wrapped = explain(Outputs(2, wrap), x, 1)
        assert torch.equal(wrapped.data, plain.data)
        assert wrapped[1].output[0].shape == (1, 2)
    torch.manual_seed(3)
    net = Outputs(2, lambda y: {"logits": y})
    with pytest.raises(TypeError, match="logits"):
        explain(net, x, 1)
    named = explain(net, x, lambda output: output["logits"][:, 1])
    assert torch.equal(named.data, plain.data)
    assert named[0].output["logits"].shape == (1, 2)
    scaled = explain(Outputs(2, lambda y: y), x, 1, forward_kwargs={"scale": 2.0})
    torch.manual_seed(3)
    scaled = explain(Outputs(2, lambda y: y), x, 1, forward_kwargs={"scale": 2.0})
    torch.testing.assert_close(scaled.data, 2 * plain.data)


def test_the_peak() -> None:
    model, x = Tiny(3), torch.zeros(1, 1, 5, 6, 7)
    x[0, 0, 1, 2, 3] = 1
    model.conv.weight.data.fill_(1)
    model.head.weight.data.fill_(1)
    result = explain(model, x, [0, 1])
    assert result.peak() == result.peak(1) == (1, 2, 3)
    with pytest.raises(ValueError, match="affine"):
        result.peak_mm()
    with pytest.raises(ValueError, match="take one"):
        explain(model, torch.cat([x, x]), 0).peak()


ISLANDS = torch.zeros(2, 2, 5, 6)
ISLANDS[:, 1] = -1
ISLANDS[0, 1, :2, :2], ISLANDS[0, 1, 4, 3:] = 2, 3  # 4 voxels, 3 voxels
ISLANDS[0, 1, 2, 2] = 1  # joins the first one at a corner
ISLANDS[1, 1, 1:4, 5] = 4


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Region(1), [4 * 2 + 3 * 3 + 1, 12]),
        (Region(1, component="largest"), [4 * 2 + 1, 12]),
        (Region(1, component=[(4, 4), (2, 5)]), [9, 12]),
        (Region(1, ISLANDS[:, 1] > 1.5, component="largest"), [8, 12]),
        (Region(1, voxel=(2, 2)), [1, -1]),
        (Region(0, voxel=(2, 2)), [0, 0]),
        (Region([0, 1], voxel=[(0, 0), (1, 5)]), [0, 4]),
        (Region(1, activation="sigmoid", voxel=(2, 2)), [0.7311, 0.2689]),
        (Positive(1, component="largest"), [9, 12]),
        (Positive(component="largest"), [9, 12]),
        (Difference(Region(1, voxel=(0, 0)), Region(0, voxel=(0, 0))), [2, -1]),
    ],
    ids=repr,
)
def test_components_and_voxels(target: Any, expected: list[float]) -> None:
    assert scores(target, ISLANDS) == pytest.approx(expected, abs=1e-4)
    settled = settle(target, ISLANDS)
    for i in range(2):
        alone = settled.sample(i)
        assert settle(alone, ISLANDS[i][None])(ISLANDS[i][None]).item() == pytest.approx(
            expected[i], abs=1e-4
        )


def islands_of_noise() -> tuple[Segmenter, torch.Tensor]:
    """A segmentation in which each channel wins here and there."""
    torch.manual_seed(0)
    net = Segmenter(2)
    torch.nn.init.normal_(net.final.weight)
    torch.nn.init.zeros_(net.final.bias)
    return net, torch.randn(2, 1, 12, 12)


def test_a_component_is_looked_for_once_in_an_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, look = [], regions._component
    monkeypatch.setattr(regions, "_component", lambda *asked: looked.append(asked) or look(*asked))
    net, x = islands_of_noise()
    target = Region(1, component="largest")
    for _ in range(2):  # the default layer is found, then known
        looked.clear()
        result = explain(net, x, [target, 0])
        assert len(looked) == len(x)
    assert torch.equal(result.target[0].mask, settle(target, net(x)).mask)
    assert torch.equal(result.target[1].mask, settle(ClassScore(0), net(x)).mask)


def test_a_target_is_what_the_first_output_makes_of_it() -> None:
    net, x = islands_of_noise()

    def turned(probe: medsal.Probe, image: Any) -> Any:
        probe.output(image)
        probe.taps(image.flip(2))
        return torch.zeros(len(image), 1, *image.shape[2:])

    def whole(probe: medsal.Probe, image: Any) -> Any:
        probe.taps(image)
        probe.taps(image.flip(2))
        return torch.zeros(len(image), 1, *image.shape[2:])

    for method in (turned, whole):
        method.one_pass = True
        found = explain(net, x, Region(1), method).target
        assert torch.equal(found.mask, settle(Region(1), net(x)).mask)
        assert not torch.equal(found.mask, settle(Region(1), net(x.flip(2))).mask)


def test_a_component_in_one_and_three_dimensions() -> None:
    line = torch.tensor([[[1.0, 2, -1, 5, -1, 1, 1, 1]]])
    assert Region(0, component="largest")(line).item() == 3
    assert Region(0, component=(3,))(line).item() == 5
    cube = -torch.ones(1, 1, 4, 4, 4)
    cube[0, 0, 0, 0, 0] = cube[0, 0, 1, 1, 1] = 1
    cube[0, 0, 3, 3, 3] = 7
    assert Region(0, component="largest")(cube).item() == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Region(1, torch.ones(5, 6), voxel=(0, 0)), "alone"),
        (lambda: Region(1, component=(3, 3))(ISLANDS), "outside it"),
        (lambda: Region(1, voxel=(5, 0))(ISLANDS), r"grid \(5, 6\)"),
        (lambda: Region(1, voxel=(-1, 0))(ISLANDS), r"grid \(5, 6\)"),
        (lambda: Region(1, voxel=(1, 0, 0))(ISLANDS), r"grid \(5, 6\)"),
        (lambda: Region(1, voxel=[(1, 0)])(ISLANDS), "one per sample"),
    ],
)
def test_components_and_voxels_that_are_not_there(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_a_channel_that_nobody_named_is_told() -> None:
    model, x = Segmenter(2), image(2)
    result = explain(model, x)
    assert any("no class was named: channel" in note for note in result.notes)
    assert str(result.target.channel) in result.notes[0]
    k = result.target.channel[0]
    one = x[:1]
    for target in (k, Region(k), ClassScore(k)):
        assert not any("no class" in note for note in explain(model, one, target).notes)
    with torch.no_grad():
        model.final.bias.fill_(5)  # so that every channel is positive
    assert not any("no class" in note for note in explain(model, x, Positive(0)).notes)
    both = explain(model, x, [None, Positive()])
    assert sum("no class was named" in note for note in both.notes) == 2
    assert "most voxels" in both.notes[1]
    assert not any("no class" in note for note in explain(Tiny(2), x).notes)


class Prompted(nn.Module):
    """A network whose image is the second of its arguments; the others hold samples."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Tiny(2)

    def forward(self, prompt: Tensor, scan: Tensor, factors: Any = None) -> Tensor:
        assert len(prompt) == len(scan)
        factor = 1.0 if factors is None else torch.as_tensor(factors["a"])[:, None]
        return self.net(scan * (1 + prompt[:, None])) * factor


@pytest.mark.parametrize(
    "method", ["gradcam", "gradient", "occlusion", "rise", "scorecam", "ablationcam", "smoothgrad"]
)
def test_which_input_is_explained(method: str) -> None:
    model, x = Prompted().double(), image(2, n=3, dtype=torch.float64)
    prompt = torch.rand(3, *x.shape[2:], dtype=torch.float64)
    options: dict[str, Any] = {"occlusion": {"window": 6}, "rise": {"masks": 5}}.get(method, {})
    for factors in (None, {"a": [1.0, 2.0, 3.0]}):
        kwargs = {"prompt": prompt, "factors": factors}
        found = explain(
            model, x, 0, method, input="scan", forward_kwargs=kwargs, **options
        )  # fmt: skip
        for i in range(3):
            some = None if factors is None else {"a": factors["a"][i : i + 1]}
            one = {"prompt": prompt[i][None], "factors": some}
            alone = explain(
                model, x[i][None], 0, method, input="scan", forward_kwargs=one, **options
            )
            torch.testing.assert_close(alone.data, found.data[i][None], rtol=1e-5, atol=1e-9)
    listed = medsal.layers(model, x, input="scan", forward_kwargs={"prompt": prompt})
    assert [each.name for each in listed if each.default] == ["net.relu"]


def test_inputs_that_are_not_there() -> None:
    model, x = Prompted(), image(2)
    with pytest.raises(LookupError, match="takes no 'scam'; near it: 'scan'"):
        explain(model, x, 0, input="scam", forward_kwargs={"prompt": x})
    with pytest.raises(LookupError, match="'factors'"):
        explain(model, x, 0, input="scan", forward_kwargs={"prompt": x[:, 0], "factor": 1})
    with pytest.raises(ValueError, match="input="):
        explain(model, x, 0, forward_kwargs={"prompt": x[:, 0]})


@pytest.mark.parametrize("values", ["random", "equal", "not a number"])
def test_who_wins_is_what_argmax_says(values: str) -> None:
    """Of equals the first one; whoever is not a number."""
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, 7)
    if values == "equal":
        logits = logits.round()
    if values == "not a number":
        logits[:, :, 2][logits[:, :, 2] == logits[:, :, 2].amax(1, keepdim=True)] = torch.nan
    winners = logits.argmax(1)
    for channel in range(4):
        assert torch.equal(won_by(logits, channel), winners == channel)
    mixed = torch.stack([winners[0] == 2, winners[1] == 0, winners[2] == 3])
    assert torch.equal(won_by(logits, (2, 0, 3)), mixed)
    counts = torch.stack([(winners == each).flatten(1).sum(1) for each in range(4)], 1)
    assert torch.equal(covered_by(logits), counts)
    assert torch.equal(won_by(logits[:, :1], 0), logits[:, 0] > 0)
    assert torch.equal(covered_by(logits[:, :1])[:, 0], (logits[:, 0] > 0).flatten(1).sum(1))
