"""Scenes opened by 3D Slicer's own code, in a virtual environment of its own (`make slicer-test`).

MEDSAL_SLICER_PYTHON names the interpreter that has slicer-core.
"""

import json
import os
import subprocess
from pathlib import Path

import matplotlib
import numpy as np
import on_grids as cases
import pytest

from medsal import Gradient, export, scan
from medsal.export import slicer, write_volume
from medsal.space import Grid
from medsal.space.grid import resample
from medsal.view.colour import grey_window

PYTHON = os.environ.get("MEDSAL_SLICER_PYTHON")
READER = Path(__file__).with_name("read_in_slicer.py")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="MEDSAL_SLICER_PYTHON names no interpreter with slicer-core"
)
GRIDS = pytest.mark.parametrize("affine", cases.GRIDS.values(), ids=cases.GRIDS)


@pytest.fixture
def opened(tmp_path):
    """What Slicer sees in a scene that it opens without a word."""

    def opened(path):
        out = tmp_path / "seen"
        out.mkdir()
        done = subprocess.run(
            [str(PYTHON), str(READER), str(path), str(out)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert (done.stdout, done.stderr) == ("", "")
        return json.loads((out / "seen.json").read_text()), out

    return opened


def blended(seen, found, view, low, high):
    """A view as it must look: the scan in grey, half of it under the map's colours."""
    affine = found.affine.numpy()
    steps = np.array(view["pixel_to_ras"])
    size = (256, 256)
    # A view is a slice of one voxel, whose steps may make a left-handed grid.
    grid = Grid((*size, 1), steps)
    grey, value = (
        resample(data, affine, grid)[0, ..., 0].astype(np.float64)
        for data in (found.image[0].numpy(), np.maximum(found.data[0, :1].numpy(), 0))
    )
    top = float(found.data.abs().max())
    base = np.clip((grey - low) / (high - low), 0, 1)[..., None] * 255
    inferno = matplotlib.colormaps["inferno"](np.clip(value / top, 0, 1))[..., :3] * 255
    drawn = (value >= 0.25 * top)[..., None]
    return np.where(drawn, (base + inferno) / 2, base).swapaxes(0, 1)


@GRIDS
def test_slicer_opens_a_scene_in_its_place(tmp_path, opened, affine):
    # The two forms of a scene differ in where their files lie alone.
    suffix = ".mrml" if np.linalg.det(affine[:3, :3]) < 0 else ".mrb"
    found = cases.result(affine, cases.speaking(), image=cases.scan()[None])
    export.save(found, tmp_path / f"case{suffix}", home=False)
    seen, out = opened(tmp_path / f"case{suffix}")
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in cases.SHAPE], [1])).reshape(4, -1)
    expected = {tuple(corner.round(2) + 0.0) for corner in (affine @ corners)[:3].T}
    for volume in seen["volumes"]:
        ends = np.array(np.meshgrid(*[(0, n - 1) for n in volume["shape"]], [1])).reshape(4, -1)
        theirs = (np.array(volume["affine"]) @ ends)[:3].T
        gaps = [min(np.linalg.norm(corner - each) for each in theirs) for corner in expected]
        assert max(gaps) < 0.02  # rounded to 0.01 above
    peak = cases.place(affine, cases.PEAK)
    np.testing.assert_allclose(seen["volumes"][1]["peak"], peak, atol=0.01)
    np.testing.assert_allclose(seen["crosshair"], peak, atol=0.01)
    assert seen["composites"] == [["case", "gradcam of 0", 0.5]] * 3
    assert [view["orientation"] for view in seen["views"]] == ["Axial", "Sagittal", "Coronal"]
    window = grey_window(cases.scan(), None, (0.5, 99.5))
    assert seen["volumes"][0]["window"] == pytest.approx([window.low, window.high], abs=1e-4)
    for view in seen["views"]:
        theirs = np.load(out / f"{view['name']}.npy").astype(float)
        ours = blended(seen, found, view, window.low, window.high)
        off = np.abs(theirs - ours).max(-1)
        # Where the map's edge or the scan's runs through a pixel, rounding decides.
        assert np.mean(off > 6) < 0.01, f"{view['name']}: {np.mean(off > 6):.3f} of the pixels"
        assert np.mean(theirs.max(-1) > 0) > 0.1


@pytest.mark.parametrize("grid", ["left-handed", "sheared"])
def test_slicer_sees_every_map_and_hot_region(tmp_path, opened, grid):
    affine = cases.GRIDS[grid]
    source = write_volume(tmp_path / "head.nii.gz", cases.scan(), affine)
    cam = cases.result(affine, cases.speaking(), 0.5 * cases.speaking(), path=str(source))
    other = cases.result(affine, cases.signed(), path=str(source), method=Gradient())
    export.save_case([cam, other], scan.read(source), tmp_path / "out", classes=["none", "ring"])
    seen, _ = opened(tmp_path / "out" / "head.mrb")
    volumes = {each["name"]: each for each in seen["volumes"]}
    assert list(volumes) == [
        "head", "gradcam of none", "gradcam of ring", "gradient of none (for)",
        "gradient of none (against)",
    ]  # fmt: skip
    assert [each["colours"] for each in seen["volumes"]] == [
        "Grey", "medsal", "medsal", "medsal for", "medsal against"
    ]  # fmt: skip
    signed = cases.signed()
    for name, data in (
        ("gradcam of ring", 0.5 * cases.speaking()),
        ("gradient of none (for)", np.maximum(signed, 0)),
        ("gradient of none (against)", np.maximum(-signed, 0)),
    ):
        assert volumes[name]["sum"] == pytest.approx(data.sum(dtype=np.float64), rel=1e-6)
        assert volumes[name]["range"] == pytest.approx([0, data.max()])
        index = np.unravel_index(data.argmax(), data.shape)
        np.testing.assert_allclose(volumes[name]["peak"], cases.place(affine, index), atol=0.01)
        assert "not a diagnosis" in volumes[name]["description"]
    masks = [cases.speaking() >= 0.5 * cases.speaking().max()] * 2
    masks += [signed >= 0.5 * signed.max(), -signed >= -0.5 * signed.min()]
    assert len(seen["segments"]) == len(masks)
    for segment, mask in zip(seen["segments"], masks, strict=True):
        assert segment["voxels"] == mask.sum()
        centre = cases.place(affine, np.argwhere(mask).mean(0))
        np.testing.assert_allclose(segment["centre"], centre, atol=0.01)
        assert "at least 50% of the maximum" in segment["name"]
    assert len({tuple(each["colour"]) for each in seen["segments"]}) == 4
    assert [each["visible"] for each in seen["segments"]] == [True, False, False, False]


def test_the_reader_would_notice(tmp_path):
    """A scene that names a missing file is told of: silence means something."""
    found = cases.result(cases.GRIDS["oblique"], cases.speaking())
    export.save(found, tmp_path / "case.mrml", home=False)
    (tmp_path / "case_data" / "case.nii.gz").unlink()
    done = subprocess.run(
        [str(PYTHON), str(READER), str(tmp_path / "case.mrml"), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.stderr


@pytest.mark.parametrize("grid", ["left-handed", "permuted"])
def test_the_script_for_nifti_colours_and_places_maps(tmp_path, grid):
    """Its functions on Slicer's own volumes; what needs the application's windows is stood in."""
    affine = cases.GRIDS[grid]
    write_volume(tmp_path / "head.nii.gz", cases.scan(), affine)
    write_volume(tmp_path / "a.nii.gz", cases.signed(), affine)
    write_volume(tmp_path / "b.nii.gz", cases.speaking(), affine)
    done = subprocess.run(
        [str(PYTHON), str(READER.with_name("run_view_in_slicer.py")), str(view_script()), "head",
         "a", "b"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [each["name"] for each in said["volumes"]] == ["a (for)", "a (against)", "b"]
    ranges = [cases.signed().max(), -cases.signed().min(), cases.speaking().max()]
    tops = [ranges[0], ranges[0], ranges[2]]
    for each, most, top in zip(said["volumes"], ranges, tops, strict=True):
        assert each["range"] == pytest.approx([0, most])
        assert each["window"] == pytest.approx([0, top])
        assert each["threshold"] == pytest.approx(0.25 * top)
    assert said["layers"] == ["head", "a (for)", 0.5]
    np.testing.assert_allclose(said["jumped"], cases.place(affine, cases.PEAK), atol=0.01)


def view_script():
    return Path(slicer.__file__).with_name("view_in_slicer.py")
