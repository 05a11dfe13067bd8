"""The check, on networks of which the answers are known."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medsal import GradCAM, Gradient
from medsal.evaluate import Check, check, stages
from medsal.evaluate.finding import lead, likeness


class Places(nn.Module):
    """Each class looks at a place of its own, through one layer; all that it knows is where."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(400, 400), nn.Linear(400, 3, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(400))
            self.first.bias.zero_()
            weights = torch.zeros(3, 20, 20)
            weights[0, 2:7, 3:9], weights[1, 12:18, 4:8], weights[2, 5:9, 13:19] = 1, 1, 1
            self.head.weight.copy_(weights.flatten(1))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.first(image.flatten(1)))


def image() -> Tensor:
    """Noise, and a bright spot where class 1 looks."""
    noise = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(2))
    noise[..., 12:18, 4:8] += 1
    return noise


def edges(probe: object, image: Tensor) -> Tensor:
    return image.diff(dim=-1, prepend=image[..., :1]).abs()


def outcomes(found: Check) -> dict[str, str]:
    return {each.name: each.outcome for each in found.findings}


def test_a_true_map_passes_and_an_edge_detector_does_not() -> None:
    model = Places()
    true = check(model, image(), Gradient("sum"), 1, steps=2)
    assert outcomes(true) == dict.fromkeys(
        ("upper layers", "all layers", "other classes", "faithfulness"), "passed"
    )
    assert true.passed
    false = check(model, image(), edges, 1, steps=2)
    assert outcomes(false)["upper layers"] == outcomes(false)["all layers"] == "failed"
    assert outcomes(false)["other classes"] == "failed"
    assert not false.passed
    for each in false.findings[:3]:
        assert each.value == pytest.approx(1)
    assert "shows the image more than the network" in false.words()
    assert "hardly depends on the class" in false.words()


def test_no_trace_and_each_stage_is_told() -> None:
    model = Places().train()
    before, state, told = copy.deepcopy(model.state_dict()), torch.get_rng_state(), []
    check(model, image(), "gradient", steps=2, random_maps=3, progress=lambda: told.append(1))
    assert len(told) == stages(3)
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


class Upper(nn.Module):
    """A head that adds up what rectified first layers show: guided maps keep to those layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.last(self.first(image)))


def test_what_is_known_of_guided_backpropagation_is_said_where_it_shows() -> None:
    torch.manual_seed(3)
    found = check(Upper().eval(), torch.randn(1, 1, 24, 24), "guided_backprop", random_maps=3)
    shown = [each for each in found.findings[:3] if each.outcome in ("partly", "failed")]
    for each in found.findings:
        assert ("It is no map to judge a network by" in each.words) == (each is shown[-1])


def test_an_empty_map_is_no_answer() -> None:
    found = check(Places(), image(), lambda probe, image: torch.zeros_like(image), 1, steps=2)
    (only,) = found.findings
    assert (only.outcome, only.value) == ("undecided", None)
    assert not found.passed
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_score_that_nothing_lowers_is_no_answer() -> None:
    found = check(Places(), torch.ones(1, 1, 20, 20), Gradient("sum"), 1, steps=2)
    assert outcomes(found)["faithfulness"] == "undecided"
    assert found.as_dict()["Deletion"]["NormalisedArea"] is None


@pytest.mark.parametrize(
    ("value", "chance", "outcome"),
    [
        (0.1, 0.0, "passed"), (0.2, 0.25, "passed"), (0.2, 0.1, "partly"), (0.5, 0.1, "failed"),
        (0.9, 0.49, "failed"), (0.9, 0.5, "undecided"), (-1.0, 0.0, "passed"),
    ],
)  # fmt: skip
def test_limits(value: float, chance: float, outcome: str) -> None:
    assert likeness(value, chance) == outcome


def test_a_lead_is_over_all_or_over_half() -> None:
    assert lead(3.0, [0.0, 1.0, 2.0]) == "passed"
    assert lead(1.5, [0.0, 1.0, 2.0]) == "partly"
    assert lead(1.0, [0.0, 1.0, 2.0]) == "failed"


@pytest.mark.parametrize("size", [(80,), (20, 24), (10, 12, 8)])
def test_it_is_written_with_a_picture_for_any_axes(size: tuple[int, ...], tmp_path: Path) -> None:
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[len(size)]
    pool = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[len(size)]
    net = nn.Sequential(conv(1, 4, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(4, 2))
    found = check(
        net, torch.rand(1, 1, *size), GradCAM(), repeats=2, random_maps=2, classes=("a", "b")
    )
    said = [each.get_text() for each in found.plot().texts]
    assert any(each.startswith(("Of class 0 (a) ·", "Of class 1 (b) ·")) for each in said)
    written = found.save(tmp_path / "out", "case")
    assert [path.name for path in written] == [
        "case_desc-gradcam_check.json",
        "case_desc-gradcam_check.png",
    ]
    assert all(path.stat().st_size for path in written)
    known = json.loads(written[0].read_text())
    assert known["Passed"] == found.passed
    assert set(known["Summary"]) == {each.name for each in found.findings}
    assert known["Model"]["sha256"] == found.result.model.sha256
    assert len(known["Randomisation"]["Layers"]) == 2


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="one sample and one target"):
        check(Places(), image().expand(2, 1, 20, 20), "gradient")
    with pytest.raises(ValueError, match="one sample and one target"):
        check(Places(), image(), "gradient", [0, 1])
    with pytest.raises(ValueError, match="even number of steps"):
        check(Places(), image(), "gradient", steps=3)
    with pytest.raises(ValueError, match="2 repeats or more"):
        check(Places(), image(), "gradient", repeats=1)
    with pytest.raises(ValueError, match="random_maps"):
        check(Places(), image(), "gradient", random_maps=0)
    with pytest.raises(LookupError, match="'gradcam'"):
        check(Places(), image(), "gradcamm")
