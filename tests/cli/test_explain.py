"""`medsal explain` and `layers`, tried as a user would: files, texts, exit status."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

import medsal
from medsal.cli import main
from medsal.cli.terminal import say_prediction


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command: its exit status, what it prints, and what it says on stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(each) for each in arguments])
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


def refused(outcome: tuple[int, str, str], *words: str) -> None:
    """Exit status 2 and one line that says these words."""
    status, _, err = outcome
    assert status == 2
    assert err.startswith("medsal: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_the_map_lies_on_the_scan(run, bundle: Path, scan: Path, tmp_path: Path) -> None:
    status, said, err = run("explain", bundle, scan, "-o", tmp_path / "out", "--target", "ring")
    assert (status, err) == (0, "")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    stem = "patient-7_label-ring_desc-gradcam_saliency"
    assert {f"{stem}.nii.gz", f"{stem}.json", f"{stem}.png", "patient-7.nii.gz"} <= names
    written = nibabel.load(tmp_path / "out" / f"{stem}.nii.gz")
    source = nibabel.load(scan)
    assert written.shape == source.shape
    np.testing.assert_allclose(written.affine, source.affine, atol=1e-4)
    theirs, ours = (
        SimpleITK.ReadImage(str(path)) for path in (scan, tmp_path / "out" / f"{stem}.nii.gz")
    )
    corner = [size - 1 for size in theirs.GetSize()]
    np.testing.assert_allclose(
        ours.TransformIndexToPhysicalPoint(corner),
        theirs.TransformIndexToPhysicalPoint(corner),
        atol=1e-3,
    )
    provenance = json.loads((tmp_path / "out" / f"{stem}.json").read_text())
    assert provenance["Method"]["Name"] == "gradcam"
    assert "peak at R" in said


def test_several_targets_and_methods(run, bundle: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, _, _ = run(
        "explain", bundle, scan, "-o", out, "--target", "0", "--target", "bright",
        "--method", "gradcam", "--method", "gradient", "--option", "channels=sum",
        "--layer", "features.denseblock1",
    )  # fmt: skip
    assert status == 2  # gradcam has no option 'channels'
    status, _, _ = run(
        "explain", bundle, scan, "-o", out, "--target", "0", "--target", "bright",
        "--method", "gradcam", "--method", "gradient",
        "--layer", "features.denseblock1",
    )  # fmt: skip
    assert status == 0
    maps = sorted(path.name for path in out.glob("*_saliency.nii.gz"))
    assert maps == [
        "patient-7_label-bright_desc-gradcam_saliency.nii.gz",
        "patient-7_label-bright_desc-gradient_saliency.nii.gz",
        "patient-7_label-none_desc-gradcam_saliency.nii.gz",
        "patient-7_label-none_desc-gradient_saliency.nii.gz",
    ]


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_other_formats_give_the_same_map(
    run, bundle: Path, scan: Path, tmp_path: Path, suffix: str
) -> None:
    other = tmp_path / f"other{suffix}"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(scan)), str(other))
    assert run("explain", bundle, scan, "-o", tmp_path / "a")[0] == 0
    assert run("explain", bundle, other, "-o", tmp_path / "b")[2] == ""
    (first,), (second,) = ((tmp_path / folder).glob("*_saliency.nii.gz") for folder in "ab")
    one, two = nibabel.load(first), nibabel.load(second)
    # The formats store directions with other digits: the grids agree to a tenth of a micrometre.
    np.testing.assert_allclose(one.affine, two.affine, atol=1e-4)
    np.testing.assert_allclose(one.get_fdata(), two.get_fdata(), rtol=1e-2, atol=1e-6)


def test_bad_input_is_one_line(run, bundle: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(run("explain", bundle, tmp_path / "none.nii.gz", "-o", out), "none.nii.gz", "no such")
    refused(run("explain", tmp_path, scan, "-o", out), "no MONAI bundle", "configs/inference.json")
    refused(run("explain", bundle, scan, "-o", out, "--method", "gradcamm"), "'gradcam'")
    refused(run("explain", bundle, scan, "-o", out, "--layer", "features.denseblok1"),
            "'features.denseblock1'")  # fmt: skip
    refused(run("explain", bundle, scan, "-o", out, "--target", "rign"), "ring")
    refused(run("explain", bundle, scan, "-o", out, "--target", "7"), "no class 7")
    refused(run("explain", bundle, scan, "-o", out, "--option", "channels"), "KEY=VALUE")
    refused(run("explain", bundle, scan, "-o", out, "--option", "chanels=sum"), "no option")
    refused(run("explain", bundle, scan, "-o", out, "--nonsense"), "--nonsense")
    refused(run("explain", bundle, scan), "-o")
    assert not out.exists()


def test_broken_scans_are_one_line(run, bundle: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    truncated = tmp_path / "truncated.nii.gz"
    truncated.write_bytes(scan.read_bytes()[:2000])
    refused(run("explain", bundle, truncated, "-o", out), "truncated.nii.gz")
    text = tmp_path / "text.nii.gz"
    text.write_bytes(gzip.compress(b"not an image"))
    refused(run("explain", bundle, text, "-o", out), "text.nii.gz")
    source = nibabel.load(scan)
    voxels = source.get_fdata().astype(np.float32)
    voxels[3, 4, 5] = np.nan
    nibabel.save(nibabel.Nifti1Image(voxels, source.affine), tmp_path / "nan.nii.gz")
    refused(run("explain", bundle, tmp_path / "nan.nii.gz", "-o", out), "NaN", "1 voxel")
    channels = np.repeat(np.nan_to_num(voxels)[..., None], 2, -1)
    nibabel.save(nibabel.Nifti1Image(channels, source.affine), tmp_path / "two.nii.gz")
    refused(run("explain", bundle, tmp_path / "two.nii.gz", "-o", out), "2 channels", "1")
    assert not out.exists()


def test_each_of_several_scans_has_a_report(run, bundle: Path, scan: Path, tmp_path: Path) -> None:
    second = shutil.copy(scan, tmp_path / "second.nii.gz")
    run("explain", bundle, scan, second, "-o", tmp_path / "out")
    found = sorted(path.name for path in (tmp_path / "out").glob("*.html"))
    assert found == ["patient-7_report.html", "second_report.html"]


def test_nothing_is_written_over(run, bundle: Path, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    twin = shutil.copy(scan, tmp_path / "deep" / scan.name)
    refused(run("explain", bundle, scan, twin, "-o", tmp_path / "out"), "same name")
    plain = tmp_path / "plain.nii.gz"
    shutil.copy(scan, plain)
    before = plain.read_bytes()
    # The scan is written beside the map by medsal's writer: never over the file that came in.
    refused(run("explain", bundle, plain, "-o", tmp_path), "plain.nii.gz")
    assert plain.read_bytes() == before


def test_layers_marks_the_default(run, bundle: Path) -> None:
    status, said, _ = run("layers", bundle)
    assert status == 0
    (default,) = (line for line in said.splitlines() if line.startswith("* "))
    assert "class_layers.relu" in default
    assert "features.denseblock1" in said


def test_methods_are_listed_with_sources(run) -> None:
    status, said, _ = run("methods")
    assert status == 0
    assert "guided_backprop" in said
    assert "arXiv:1610.02391" in said


def test_help_is_for_newcomers(run) -> None:
    for command in ([], ["explain"], ["demo"], ["layers"], ["methods"]):
        status, said, _ = run(*command, "--help")
        assert status == 0
        assert "Usage" in said


def test_the_script_for_slicer_is_printed_or_written(run, tmp_path: Path) -> None:
    status, said, _ = run("slicer")
    assert status == 0
    compile(said, "view_in_slicer.py", "exec")
    assert "loadVolume" in said
    assert run("slicer", "-o", tmp_path / "view.py")[0] == 0
    assert (tmp_path / "view.py").read_text() == said
    (tmp_path / "view.py").write_text("mine")
    refused(run("slicer", "-o", tmp_path / "view.py"), "not written over")


def test_the_scan_is_read_once_for_all_methods(run, bundle, scan, tmp_path, nifti_reads) -> None:
    methods = ["--method", "gradcam", "--method", "gradient"]
    assert run("explain", bundle, scan, "-o", tmp_path / "out", *methods)[0] == 0
    assert nifti_reads == [scan]


def test_what_a_segmentation_explains_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    net, image = torch.nn.Conv3d(1, 2, 1), torch.rand(1, 1, 4, 4, 4)
    result = medsal.explain(net, image, medsal.Region(1, torch.ones(4, 4, 4)), "gradient")
    named = SimpleNamespace(classes=("background", "spleen"), name="organs")
    say_prediction(named, named, result)
    assert capsys.readouterr().out == "organs\n  explained: region of class 1 (spleen), 64 voxels\n"
