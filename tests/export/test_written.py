"""What is written lies where the scan lies, for nibabel and for ITK, whole or not at all."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from monai import transforms as mt

import medsal
from medsal import export, scan
from medsal.export import write_volume

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")
SHAPE = (23, 20, 17)
# Oblique, left-handed, anisotropic.
ANGLE = 0.3
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE), 0], [np.sin(ANGLE), np.cos(ANGLE), 0], [0, 0, 1]])
TILT = np.array([[1, 0, 0], [0, np.cos(ANGLE), -np.sin(ANGLE)], [0, np.sin(ANGLE), np.cos(ANGLE)]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = (TURN @ TILT) * (1.2, -0.8, 3.1)
AFFINE[:3, 3] = (-30, 12, 55)
SHEARED = AFFINE.copy()
SHEARED[:3, 2] += 0.2 * AFFINE[:3, 1]


def volume():
    at = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij"))
    out = np.random.default_rng(0).normal(0, 1, SHAPE)
    for *centre, width, height in [
        (0, 0, 0, 0.5, 90),
        (0.3, 0.2, -0.3, 0.2, 120),
        (-0.4, 0.1, 0.4, 0.15, 99),
    ]:
        away = sum((axis - c) ** 2 for axis, c in zip(at, centre, strict=True))
        out += height * np.exp(-away / (2 * width**2))
    return out.astype(np.float32)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "Jane Doe"
    folder.mkdir()
    return write_volume(folder / "scan.nii.gz", volume(), AFFINE)


@pytest.fixture
def result(source):
    load = mt.LoadImage(ensure_channel_first=True, reader="NibabelReader")
    steps = [mt.ScaleIntensity(), mt.CenterSpatialCrop((20, 18, 12)), mt.Resize((16, 16, 16))]
    image = mt.Compose([load, *steps])(str(source))[None]
    return medsal.explain(net(), image, target=1)


def net():
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool3d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    )


def itk_place(path, index):
    x, y, z = SimpleITK.ReadImage(str(path)).TransformIndexToPhysicalPoint(index)
    return np.array([-x, -y, z])


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_nibabel_and_itk_place_a_volume_the_same(tmp_path, suffix):
    path = write_volume(tmp_path / f"a{suffix}", volume(), AFFINE)
    index = (20, 3, 11)
    expected = (AFFINE @ [*index, 1])[:3]
    np.testing.assert_allclose(itk_place(path, index), expected, atol=1e-4)
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).T
    np.testing.assert_array_equal(read, volume())
    if suffix.startswith(".nii"):
        image = nibabel.load(path)
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
        np.testing.assert_allclose(image.header.get_qform(), AFFINE, atol=1e-4)
        assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 1
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.get_data_dtype() == np.float32


def test_sheared_grid_goes_to_nrrd_at_its_true_place(tmp_path):
    path = write_volume(tmp_path / "a.nii.gz", volume(), SHEARED)
    assert path.name == "a.nrrd"
    index = (20, 3, 11)
    np.testing.assert_allclose(itk_place(path, index), (SHEARED @ [*index, 1])[:3], atol=1e-4)
    np.testing.assert_allclose(scan.read(path).affine, SHEARED, atol=1e-5)


def test_flat_and_unfinite_volumes(tmp_path):
    flat = volume()[..., 0]
    flat[0, 0] = np.nan
    image = nibabel.load(write_volume(tmp_path / "a.nii.gz", flat, AFFINE))
    assert image.shape == (*SHAPE[:2], 1)
    assert image.get_fdata()[0, 0, 0] == 0


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_saved_map_lies_on_the_scan(tmp_path, result, suffix):
    made = result.save(tmp_path / "out" / f"m{suffix}")
    assert [path.name for path in made] == [f"m{suffix}", "m.json"]
    home = result.home()
    np.testing.assert_allclose(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(made[0]))).T, home.data[0, 0]
    )
    np.testing.assert_allclose(
        itk_place(made[0], (5, 6, 7)), (AFFINE @ [5, 6, 7, 1])[:3], atol=1e-4
    )


def test_sidecar_says_what_it_takes_and_names_no_folder(tmp_path, result):
    text = result.save(tmp_path / "m.nii.gz")[1].read_text()
    said = json.loads(text)
    assert text == json.dumps(said, indent=2, sort_keys=True) + "\n"
    assert "Jane" not in text
    assert str(tmp_path) not in text
    assert {"Method", "Target", "Layer", "Model", "Prediction", "Input", "Notes", "Versions"} <= {
        *said
    }
    assert said["Input"]["File"] == "scan.nii.gz"
    assert len(said["Input"]["SHA256"]) == 64
    assert said["Method"]["Reference"]
    assert any("grid check" in note for note in said["Notes"])


def test_case_is_written_together(tmp_path, result, source):
    made = export.save_case([result.home()], scan.read(source), tmp_path / "out")
    assert {path.name for path in made} == {
        "scan.nii.gz",
        "scan.mrb",
        "report.html",
        "scan_label-1_desc-gradcam_saliency.nii.gz",
        "scan_label-1_desc-gradcam_saliency.json",
        "scan_label-1_desc-gradcam_saliency.png",
        "scan_desc-seen_mask.nii.gz",
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in made}
    one, two = (nibabel.load(tmp_path / "out" / n) for n in ("scan.nii.gz", made[1].name))
    np.testing.assert_array_equal(one.affine, nibabel.load(source).affine)
    assert one.shape == two.shape == SHAPE
    seen = nibabel.load(tmp_path / "out" / "scan_desc-seen_mask.nii.gz").get_fdata()
    assert 0 < seen.mean() < 1


def test_a_report_shows_what_check_left_of_this_model(tmp_path, result, source):
    out = tmp_path / "out"
    out.mkdir()
    for name, sha in (("gradcam", result.model.sha256), ("rise", "of another model")):
        kept = {"Method": name, "Target": "1", "Model": {"sha256": sha}, "Summary": {"x": 0.25}}
        (out / f"scan_desc-{name}_check.json").write_text(json.dumps(kept))
    (out / "scan_desc-other_check.json").write_text("[]")
    export.save_case([result.home()], scan.read(source), out, outputs="html")
    page = (out / "report.html").read_text("utf-8")
    assert "Sanity checks and faithfulness: gradcam, 1" in page
    assert '<th scope="row">Summary.x</th><td>0.25</td>' in page
    assert "faithfulness: rise" not in page
    export.save_case([result.home()], scan.read(source), out, outputs="html", checks={"mine": 1})
    assert "Summary.x" not in (out / "report.html").read_text("utf-8")


def test_a_report_shows_checks_once_and_says_in_words_of_what(tmp_path, result, source):
    name = f"{result.method!r}, ring"
    checks = {name: {"Passed": True, "Words": {"x": "It depends on the weights."}}}
    asked = {"classes": ("none", "ring", "bright"), "checks": checks}
    home, out = result.home(), tmp_path / "out"
    export.save_case([home], scan.read(source), out, outputs=("html",), **asked)
    page = (out / "report.html").read_text("utf-8")
    assert page.count("It depends on the weights.") == 1
    assert "Sanity checks and faithfulness: GradCAM, class 1 (ring)" in page
    assert "SanityChecks" not in page
    made = export.save_case([home], scan.read(source), out, outputs=("nifti",), **asked)
    (path,) = (each for each in made if each.suffix == ".json")
    assert json.loads(path.read_text("utf-8"))["SanityChecks"] == checks[name]


def test_pictures_of_a_methods_targets_share_a_scale_and_know_the_classes(
    tmp_path, result, source, monkeypatch
):
    two = medsal.explain(net(), torch.cat([result.image]), target=[0, 2], method="gradient")
    two = replace(two, affine=result.affine, origins=result.origins)
    scales, classes = [], []
    plot = medsal.SaliencyMap.plot

    def watch(self, **options):
        scales.append(options["scale"])
        classes.append(options["classes"])
        return plot(self, **options)

    monkeypatch.setattr(medsal.SaliencyMap, "plot", watch)
    home = two.home()
    names, out = ("none", "bright", "ring"), tmp_path / "out"
    export.save_case([home], scan.read(source), out, outputs="png", classes=names)
    assert classes == [names] * 2
    largest = float(home.data.abs().max())
    assert [scale.top for scale in scales] == pytest.approx([largest] * 2)
    assert scales[0].words == "one scale for 2 maps"


def test_nothing_is_left_of_a_failure(tmp_path, result, source, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("no ink")

    monkeypatch.setattr(medsal.SaliencyMap, "plot", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        export.save_case([result.home()], scan.read(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_scan_itself_is_never_written_over(result, source):
    before = source.read_bytes()
    with pytest.raises(ValueError, match="the scan that came in"):
        result.save(source)
    with pytest.raises(ValueError, match="the scan that came in"):
        export.save_case([result.home()], scan.read(source), source.parent)
    assert source.read_bytes() == before
    assert [path.name for path in source.parent.iterdir()] == ["scan.nii.gz"]


def test_several_targets_and_samples(tmp_path, source, result):
    image = result.image
    both = medsal.explain(net(), torch.cat([image, image]))
    with pytest.raises(ValueError, match=r"one sample, got 2.*result\[0\]"):
        both.save(tmp_path / "m.nii.gz")
    two = medsal.explain(net(), image, target=[0, 2])
    made = two.save(tmp_path / "m.nii.gz", home=False)
    assert [p.name for p in made if p.suffix == ".gz"] == ["m_label-0.nii.gz", "m_label-2.nii.gz"]


def test_unknown_suffix(tmp_path, result):
    with pytest.raises(ValueError, match=r"\.nii\.gz.*\.png"):
        result.save(tmp_path / "m.dcm")


def test_lost_place_is_told_in_the_sidecar(tmp_path, result):
    lost = medsal.explain(net(), result.image)
    said = json.loads(lost.save(tmp_path / "m.nii.gz", home=False)[1].read_text())
    assert said["Grid"]["Space"] is None


@pytest.mark.parametrize(
    ("outputs", "suffixes"),
    [
        (["png"], {"_saliency.json", "_saliency.png"}),
        ("nifti", {"_saliency.json", "_saliency.nii.gz", "_mask.nii.gz"}),
        (["scan"], {"_saliency.json", "scan.nii.gz"}),
        (["mrb"], {"_saliency.json", "scan.mrb"}),
        (["html"], {"_saliency.json", "report.html"}),
    ],
)
def test_only_the_outputs_asked_for(result, tmp_path, outputs, suffixes):
    case = scan.read(result.origins[0].path)
    made = export.save_case([result.home()], case, tmp_path / "out", outputs=outputs)
    assert sorted(made) == sorted((tmp_path / "out").iterdir())
    assert all(any(path.name.endswith(suffix) for suffix in suffixes) for path in made)
    assert len(made) == len(suffixes)


def test_outputs_that_there_are_not(result, tmp_path):
    case = scan.read(result.origins[0].path)
    with pytest.raises(LookupError, match=r"'nifti', 'png'.* got 'pmg'"):
        export.save_case([result.home()], case, tmp_path / "out", outputs=["png", "pmg"])
    with pytest.raises(ValueError, match="at least one"):
        export.save_case([result.home()], case, tmp_path / "out", outputs=[])
    assert not (tmp_path / "out").exists()
