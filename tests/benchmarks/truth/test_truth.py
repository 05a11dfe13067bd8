"""The benchmark's pieces on small grids: no shortcut, medsal's maps, a page from figures."""

import numpy as np
import pytest
import torch
from torch import nn

import medsal
from medsal import METHODS, GradCAM, HiResCAM, Mirrored
from medsal.targets import ClassScore
from tests.benchmarks.truth import (
    comparing,
    figures,
    networks,
    page,
    placing,
    scenes,
    tables,
    where,
    which,
)
from tests.benchmarks.truth.contenders import Contender, contenders, middle_map, random_map
from tests.benchmarks.truth.networks import FAMILIES, Family, Recipe

SMALL = (16, 16, 16)
HEADS = ("s1",)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pairs():
    return [[scenes.scene(5, 3 * i + kind, HEADS) for kind in (0, 1, 2)] for i in range(6)]


def test_no_shortcut_tells_the_kinds_apart(pairs):
    """Total intensity, its square's sum and the place say as little as a coin."""
    rows, labels = [], []
    for pair in pairs:
        for each in pair:
            total = each.image.double().sum()
            rows.append([float(total.round(decimals=1)), *each.lesions[0].centre, 1.0])
            labels.append(scenes.SIGNS[each.label])
    features = np.array(rows)
    features = features / np.abs(features).max(0)
    weights = np.linalg.lstsq(features, np.array(labels), rcond=None)[0]
    assert np.abs(features @ weights).max() < 0.05
    for bright, dark, neither in pairs:
        assert (bright.label, dark.label, neither.label) == (0, 1, 2)
        assert torch.equal(bright.masks, dark.masks)
        middle = (bright.image + dark.image) / 2
        assert torch.allclose(middle, neither.image, atol=1e-5)
        assert float(bright.image.double().sum() - dark.image.double().sum()) == pytest.approx(
            0, abs=0.05
        )


def test_the_kinds_differ_in_the_lesion_alone(pairs):
    for bright, dark, _ in pairs:
        apart = (bright.image - dark.image)[0]
        inside = bright.masks[0]
        assert float(apart[inside].abs().mean()) > 20 * float(apart[~inside].abs().mean())
        centre = tuple(round(each) for each in bright.lesions[0].centre)
        assert apart[centre] > 0
        assert inside[centre]


def test_a_lesion_is_where_and_as_large_as_it_says():
    lesion = scenes.Lesion(0, (20.0, 31.5, 40.25), 24.0, 0.7)
    image, mask = scenes.paint(torch.ones(64, 64, 64), lesion)
    assert mask.nonzero().double().mean(0).tolist() == pytest.approx(lesion.centre, abs=0.1)
    volume = float(mask.sum()) * scenes.MM**3
    assert (6 * volume / torch.pi) ** (1 / 3) == pytest.approx(24, abs=0.4)
    other, _ = scenes.paint(torch.ones(64, 64, 64), scenes.replace(lesion, kind=1))
    assert float((image - other)[mask].square().mean().sqrt()) / 2 == pytest.approx(0.7, abs=1e-3)


def test_a_scan_with_both_kinds():
    found = scenes.both(5, 1, HEADS, lopsided=True)
    assert sorted(each.kind for each in found.lesions) == [0, 1]
    assert found.label == found.lesions[0].kind
    assert not (found.masks[0] & found.masks[1]).any()


class Tiny(nn.Module):
    """Three layers of stride 2, 2 and 1."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv3d(4, 4, 3, 2, 1), nn.ReLU())
        self.three = nn.Sequential(nn.Conv3d(4, 4, 3, 1, 1), nn.ReLU())
        self.last = nn.Linear(4, 2)

    def forward(self, image):
        return self.last(self.three(self.two(self.one(image))).mean((2, 3, 4)))


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(FAMILIES, "tiny", Family(Tiny, ("three", "two", "one"), 4, 2, 8))
    torch.manual_seed(0)
    return Recipe("tiny"), Tiny().eval()


@pytest.fixture
def case():
    image = torch.randn(1, *SMALL, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, *SMALL, dtype=torch.bool)
    mask[0, 3:8, 4:8, 9:13] = True
    return scenes.Scene(image, 1, mask, ())


def test_maps_are_placed_as_medsal_places_them(tiny, case):
    recipe, net = tiny
    shift = (1.0, -0.5, 0.0)
    found = {placing.named(*each): {"shift": shift} for each in placing.MAPS}
    rows = {(row["map"], row["way"]): row for row in placing.placed(recipe, net, case, found)}
    assert len(rows) == len(placing.MAPS) * len(placing.WAYS)
    last = FAMILIES["tiny"].layers[0]
    for name, way, method in (
        ("gradcam at layer -1", "trilinear", GradCAM(last)),
        ("gradcam at layer -1", "calibrated", GradCAM(last, shift=shift)),
        ("gradcam at layer -1", "mirrored 2", Mirrored(GradCAM(last))),
        ("hirescam at layer -3", "mirrored 8", Mirrored(HiResCAM("one"), passes=8)),
    ):
        saliency = medsal.explain(net, case.image[None], ClassScore(1), method).data
        expected = figures.place(saliency, case.masks[None])
        assert {key: rows[name, way][key] for key in expected} == pytest.approx(expected, rel=1e-3)


def test_calibration_uses_no_truth(tiny, monkeypatch):
    recipe, net = tiny
    blank = scenes.Scene(torch.rand(1, *SMALL), 0, torch.zeros(0), ())
    monkeypatch.setattr(placing, "unlabelled", lambda *_: blank)
    found = placing.shifts(recipe, net, 4)
    assert set(found) == {placing.named(*each) for each in placing.MAPS}
    assert all("refused" in each or len(each["shift"]) == 3 for each in found.values())


def test_the_theory_of_receptive_fields():
    """The gradient of one cell of a network of ones is centred where the theory says."""
    assert placing.theory("ResNet10 stem 2", 32) == -15.5
    assert placing.theory("DenseNet121", 32) == placing.theory("DenseNet121", 8) == -1.5
    net = nn.Sequential(nn.Conv1d(1, 1, 7, 2, 3), nn.MaxPool1d(3, 2, 1), nn.Conv1d(1, 1, 3, 2, 1))
    pooled = nn.Sequential(nn.Conv1d(1, 1, 7, 2, 3), nn.AvgPool1d(3, 2, 1), nn.AvgPool1d(2, 2))
    for layers, family in ((net, "ResNet10 stem 2"), (pooled, "DenseNet121")):
        image = torch.ones(1, 1, 64, requires_grad=True)
        for each in layers:
            if isinstance(each, nn.Conv1d):
                nn.init.ones_(each.weight)
        smooth = nn.Sequential(*(nn.AvgPool1d(3, 2, 1) if "Max" in str(e) else e for e in layers))
        gradient = torch.autograd.grad(smooth(image)[0, 0, 4], image)[0][0, 0]
        centre = float((gradient * torch.arange(64)).sum() / gradient.sum())
        assert centre - (8 * 4 + 3.5) == pytest.approx(placing.theory(family, 8), abs=1e-3)


def test_all_contenders_are_there_and_a_row_is_whole(tiny, case):
    _, net = tiny
    names = [each.name for each in contenders(Recipe("ResNet10 stem 2"), torch.zeros(1))]
    assert set(METHODS) < set(names)
    assert {"MONAI GradCAM", "random", "middle of the grid"} < set(names)
    other = scenes.Scene(case.image, 0, torch.cat([case.masks, case.masks.flip(1)]), ())
    asked = comparing.Stimulus(case, other, (0, 1), (0, 1), torch.zeros(1), "sigmoid")
    blank = comparing.without_learning(net, case.image[None])
    for maps in (random_map, middle_map, lambda *asked: medsal.explain(*asked).data):
        row = comparing.figures(Contender("any", "medsal", maps), net, asked, blank)
        assert {column for _, column, _ in which.COMPARED} <= set(row)
        assert all(np.isfinite(value) for value in row.values())
    assert row["own class"] != 0.5
    middle = comparing.figures(Contender("", "", middle_map), net, asked, blank)
    assert middle["own class"] == 0.5
    assert middle["like random weights"] == pytest.approx(1)


def test_own_class_by_hand():
    masks = torch.tensor([[True, False], [False, True]])
    maps = torch.tensor([[[3.0, 1.0], [1.0, 1.0]]])
    assert figures.discrimination(maps, masks, [0, 1]) == pytest.approx((0.75 + 0.5) / 2)
    assert figures.discrimination(maps, masks[:1], [0]) == pytest.approx(0.75)


def test_intervals():
    same = [np.full((5, 1), 2.0), np.full((5, 1), 4.0)]
    middle, low, high = figures.interval(same)
    assert (middle, low, high) == (3, 2, 4)
    offsets = np.array([[1.0, -2.0, 0.0], [3.0, -2.0, 0.0]])
    assert figures.bias(offsets[None]) == pytest.approx((2 + 2 + 0) / 3)


def test_training_takes_its_steps(tiny, tmp_path):
    recipe, _ = tiny
    stack = {
        "common": torch.rand(3, 1, 64, 64, 64).half(),
        "half": torch.rand(3, 1, 64, 64, 64).half(),
        "centres": torch.full((3, 3), 30.0),
    }
    sizes = [images.shape for _, images, _ in networks.batches(recipe, stack)]
    assert sizes == [(18, 1, 8, 8, 8)] * 4 + [(9, 1, 64, 64, 64)] * 2
    net, seconds = networks.trained(recipe, lambda: stack, tmp_path, lambda _: None)
    again, same = networks.trained(recipe, dict, tmp_path, lambda _: None)
    assert seconds == same > 0
    assert all(map(torch.equal, net.state_dict().values(), again.state_dict().values()))


def test_the_page_says_what_the_figures_say(tmp_path):
    """Mirrored is nearer by 4 mm in each case of both networks, theory farther by 1 mm."""
    rows, compared, trained = [], [], []
    for net in ("A, flips, seed 0", "B, no flips, seed 0"):
        trained.append({"network": net, "accuracy": 0.97, "seconds": 60.0})
        head = {"network": net, "case": -1, "map": "gradcam at layer -1"}
        rows.append({**head, "shift": [1.0, 2.0, 3.0]})
        for i in range(4):
            for name in where.NAMES:
                for way in placing.WAYS:
                    away = 10 + i + {"mirrored 2": -4, "theory": 1}.get(way, 0)
                    columns = [each for _, names, *_ in where.PLACED for each in names]
                    head = {"network": net, "case": i, "map": name, "way": way}
                    row = {**head, **dict.fromkeys(columns, away)}
                    rows.append({**row, "auprc": 1 / away})
            columns = [column for _, column, _ in which.COMPARED]
            head = {"network": net, "case": i}
            for method, value, kind in (
                ("gradcam", 0.5, "medsal"),
                ("hirescam", 0.75, "medsal"),
                ("middle of the grid", 0.25, "knows nothing"),
            ):
                row = {**head, "kind": kind, "method": method}
                compared.append({**row, **dict.fromkeys(columns, value)})
            compared.append({**head, "kind": "MONAI", "method": "M", "raises": "E: no"})
    trained.append({"network": "C, flips, seed 0", "accuracy": 0.6, "seconds": 60.0})
    head = {"network": "A, flips, seed 0", "seconds": 60.0}
    times = [{**head, "stage": f"compare{i}"} for i in (0, 3)]
    for name, each in zip(tables.TABLES, (trained, rows, compared, times), strict=True):
        tables.write(tmp_path / f"{name}.csv", each)
    page.write(tmp_path)
    text = (tmp_path / "truth.md").read_text()
    assert "takes 5 CPU minutes on one core here (training 3, compare 2; 8 of 10 parts" in text
    assert "2 of 3 networks are right in 0.9 or more" in text
    assert "| gradcam at layer -1 | mirrored 2 | +4.0 (+4.0 to +4.0) | 2 of 2 | helps |" in text
    assert "| gradcam at layer -1 | theory | -1.0 (-1.0 to -1.0) | 0 of 2 | harms |" in text
    assert "| A, flips (1) | 11.5 (10.5 to 12.5) | **-1.0 (-1.0 to -1.0)** | +0.0" in text
    assert "| gradcam at layer -1 | 1 2 3 |" in text
    assert "nothing here is of them: ResNet10 stem 2," in text
    assert "places Grad-CAM at -1 worse | yes: +1.0" in text
    assert "at -2 better than 2: not so, but the contrary, for trained with flips" in text
    assert "and a group: by the centroid it helps in 10 of 10, harms in 0;" in text
    assert "and a group: by the centroid it helps in 0 of 10, harms in 10;" in text
    assert "in one pass *trilinear*, not shifted; with more passes *mirrored 2*" in text
    assert "a blob in the middle of the grid 0.2 (0.2 to 0.2)" in text
    assert "- M, on A, flips, seed 0; B, no flips, seed 0: `E: no`" in text
    advice = (tmp_path / "truth_methods.md").read_text()
    assert "`hirescam` 0.750 (0.750 to 0.750)" in advice
    assert "middle of the grid 0.250 (0.250 to 0.250)" in advice
    assert advice.strip() in text
    assert (tmp_path / "images" / "truth_placement.png").stat().st_size > 5000


def test_tables_come_back(tmp_path):
    tables.save(tmp_path / "net.place.json", [{"a": 1.5, "b": "x"}])
    tables.gather(tmp_path, tmp_path)
    assert tables.read(tmp_path / "truth_placement.csv") == [{"a": 1.5, "b": "x"}]
    assert tables.read(tmp_path / "truth_networks.csv") == []
