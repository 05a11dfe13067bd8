"""A sidecar holds what its map was made with: the same map is made from it again."""

import dataclasses
import json

import numpy as np
import on_grids as cases
import pytest
import torch
from monai import transforms as mt

import medsal
from medsal import export
from medsal.export.spelling import read_spelled, spelled
from medsal.monai import Windowed
from medsal.targets import Predicted

METHODS = [medsal.get_method(name) for name in medsal.METHODS]
NESTED = [
    medsal.Smooth(medsal.GuidedBackprop(channels="max"), samples=3, sigma=0.2, seed=7),
    medsal.Mirrored(medsal.LayerCAM(layer=["0", "1"])),
    Windowed(medsal.Smooth("gradcam"), (8, 8, 8), overlap=0.5, mode="gaussian"),
    medsal.IntegratedGradients(baseline=torch.tensor([[[[0.25]]]])),
    medsal.Occlusion(window=(3, 2, 4), fill="blur"),
    medsal.RISE(masks=10, p=0.3, seed=4),
]


def there_and_back(value):
    return read_spelled(json.loads(json.dumps(spelled(value), allow_nan=False)))


@pytest.mark.parametrize("method", [*METHODS, *NESTED], ids=repr)
def test_every_method_comes_back_the_same(method):
    assert there_and_back(method) == method


def test_a_method_that_chose_its_layer_comes_back_with_it():
    said = spelled(medsal.Smooth(medsal.GradCAM()))
    assert read_spelled(said, "layer4").method.layer == "layer4"
    kept = spelled(medsal.Smooth(medsal.GradCAM(layer="layer1")))
    assert read_spelled(kept, "layer4").method.layer == "layer1"


@pytest.mark.parametrize(
    "target",
    [
        medsal.ClassScore(2, activation="softmax"),
        medsal.ClassScore((0, 2)),
        medsal.Difference(medsal.ClassScore(1), medsal.ClassScore(0)),
        Predicted(),
    ],
    ids=repr,
)
def test_targets_come_back_the_same(target):
    assert there_and_back(target) == target


def test_a_region_comes_back_with_its_mask_and_activation():
    mask = torch.rand(1, 9, 7, 5, generator=torch.Generator().manual_seed(0)) > 0.6
    region = there_and_back(medsal.Region(1, mask=mask, activation="sigmoid"))
    assert (region.channel, region.activation) == (1, "sigmoid")
    assert torch.equal(region.mask, mask)


@pytest.mark.parametrize(
    "kind", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (3, 5), (0, 2)])
def test_tensors_come_back_to_the_bit(kind, shape):
    tensor = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tensor = (300 * tensor).to(kind)
    again = there_and_back(tensor)
    assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(again, tensor)


def test_mappings_come_back_with_all_in_them():
    value = {"steps": 3, "guide": {"weight": float("inf"), "name": None, "parts": (1, True)}}
    assert there_and_back(value) == value


def test_what_has_no_spelling_is_refused():
    def mine(output):
        return output[:, 0]

    with pytest.raises(ValueError, match=r"can't hold .*mine.* in Python"):
        there_and_back(mine)
    with pytest.raises(ValueError, match="can't hold"):
        there_and_back(medsal.Difference(mine, 0))
    with pytest.raises(ValueError, match="can't hold"):
        there_and_back({1: "a number as a name"})
    large = medsal.ExpectedGradients(references=torch.rand(2, 1, 20, 20, 20))
    with pytest.raises(ValueError, match=r"\(2, 1, 20, 20, 20\).*too large"):
        there_and_back(large)
    with pytest.raises(ValueError, match=r"NoSuchCAM.*import the module"):
        read_spelled({"Class": "NoSuchCAM", "Parameters": {}})


def net():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    ).eval()


def segmenter():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 3, 1)
    ).eval()


@pytest.fixture
def image(tmp_path):
    source = export.write_volume(tmp_path / "head.nii.gz", cases.scan(), cases.GRIDS["oblique"])
    load = mt.LoadImage(ensure_channel_first=True, reader="NibabelReader")
    steps = [mt.ScaleIntensity(), mt.Spacing((2.0, 2.0, 2.0))]
    return mt.Compose([load, *steps])(str(source))[None]


@pytest.mark.parametrize("home", [True, False])
@pytest.mark.parametrize(
    ("model", "target", "method"),
    [
        (net, None, "gradcam"),
        (net, medsal.Difference(1, 0), medsal.Smooth(medsal.GuidedBackprop(), samples=2, seed=5)),
        (segmenter, None, "gradcam"),
        (segmenter, medsal.Region(2, activation="softmax"), medsal.RISE(masks=4, seed=9)),
        (segmenter, medsal.Region(2, component="largest"), "layercam"),
        (segmenter, medsal.Positive(2), "gradient"),
        (net, medsal.ClassScore(2, activation="softmax"), Windowed("hirescam", 12)),
    ],
    ids=[
        "cam",
        "smooth difference",
        "predicted",
        "random masks",
        "component",
        "positive",
        "windows",
    ],
)
def test_the_same_map_again(tmp_path, image, model, target, method, home):
    before = medsal.explain(model(), image, target, method)
    before.save(tmp_path / "out" / "map.nii.gz", home=home)
    recipe = export.read_recipe(tmp_path / "out" / "map.json")
    again = recipe.explain(model(), image)
    there = before.home() if home else before
    assert torch.equal(again.data, there.data)
    compared = recipe.compared(again)
    assert compared.identical
    assert "bit for bit" in str(compared)


class Conditioned(torch.nn.Module):
    """A network whose image is not its first argument, and whose score depends on the others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.conv = torch.nn.Conv3d(1, 3, 3)

    def forward(self, context, volume, scale=None):
        features = self.conv(volume).square().sum((2, 3, 4))
        return features * context * scale["by"]


def conditioned(image, context):
    """A map of such a network."""
    given = {"context": context, "scale": {"by": 2.5}}
    return medsal.explain(Conditioned(), image, 1, "gradient", input="volume", forward_kwargs=given)


def test_the_same_map_again_with_the_arguments_of_the_forward_pass(tmp_path, image):
    before = conditioned(image, torch.tensor([[0.3, -7.0, 2.0]], dtype=torch.float64))
    before.save(tmp_path / "map.nii.gz")
    recipe = export.read_recipe(tmp_path / "map.json")
    again = recipe.explain(Conditioned(), image)
    assert recipe.compared(again).identical
    said = recipe.said["Forward"]
    assert said["Image"] == "volume"
    context = said["Arguments"]["context"]["Tensor"]
    assert (context["DType"], context["Shape"]) == ("float64", [1, 3])


def test_a_sample_of_a_batch_is_made_again_with_its_own_arguments(tmp_path, image):
    context = torch.tensor([[1.0, 1.0, 1.0], [0.3, -7.0, 2.0]])
    both = conditioned(torch.cat([image, image]), context)
    one = dataclasses.replace(both, affine=image.affine, origins=(medsal.Origin(),) * 2)[1]
    one.save(tmp_path / "map.json")
    again = export.read_recipe(tmp_path / "map.json").explain(Conditioned(), image.as_tensor())
    torch.testing.assert_close(again.data, both.data[1:])
    assert not torch.allclose(again.data, both.data[:1])


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (
            torch.rand(2, 3, 1000),
            r"argument 'context'.*\(2, 3, 1000\), float32, SHA-256.*too large",
        ),
        (torch.nn.Identity(), r"argument 'context'.*can't hold .*Identity.*in Python"),
    ],
)
def test_arguments_that_a_sidecar_can_not_hold_are_refused(tmp_path, image, argument, words):
    made = medsal.explain(net(), image, 1, "gradient")
    dataclasses.replace(made, forward_kwargs={"context": argument}).save(tmp_path / "map.json")
    with pytest.raises(ValueError, match=words):
        export.read_recipe(tmp_path / "map.json").explain(net(), image)


def test_arguments_that_nobody_knows_are_not_made_up(tmp_path, image):
    made = dataclasses.replace(medsal.explain(net(), image, 1), forward_kwargs=None)
    made.save(tmp_path / "map.json")
    assert export.read_recipe(tmp_path / "map.json").said["Forward"] is None


def test_another_map_is_told(tmp_path, image):
    before = medsal.explain(net(), image, 1)
    before.save(tmp_path / "map.nii.gz")
    recipe = export.read_recipe(tmp_path / "map.json")
    other = dataclasses.replace(before.home(), data=before.home().data * 1.01)
    compared = recipe.compared(other)
    assert not compared.identical
    assert compared.difference == pytest.approx(0.01, rel=1e-3)
    near = dataclasses.replace(before.home(), data=before.home().data * (1 + 1e-6))
    assert "same to rounding" in str(recipe.compared(near))
    (tmp_path / "map.nii.gz").unlink()
    assert recipe.compared(other).difference is None


def test_another_model_or_scan_is_refused(tmp_path, image):
    medsal.explain(net(), image, 1).save(tmp_path / "map.nii.gz")
    recipe = export.read_recipe(tmp_path / "map.json")
    other = net()
    with torch.no_grad():
        other[0].weight[0, 0, 0, 0, 0] += 1e-3
    with pytest.raises(ValueError, match=r"expected Sequential with weights .*, got Sequential"):
        recipe.explain(other, image)
    changed = np.array(cases.scan())
    changed[0, 0, 0] += 1
    export.write_volume(tmp_path / "head.nii.gz", changed, cases.GRIDS["oblique"])
    with pytest.raises(ValueError, match=r"not the scan of map.json: expected head.nii.gz .*got"):
        recipe.explain(net(), image)


def test_what_is_no_sidecar(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        export.read_recipe(tmp_path / "map.json")
    (tmp_path / "map.json").write_text('{"Method": 1}')
    with pytest.raises(ValueError, match=r"no sidecar of a map: it has no Target"):
        export.read_recipe(tmp_path / "map.json")
    (tmp_path / "map.json").write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        export.read_recipe(tmp_path / "map.json")
