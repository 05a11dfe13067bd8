"""The demo scan: an awkward grid that all readers agree on, and a truth that matches its mask."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from medsal.demo import CLASSES, LESION_MASK, SCAN, TRUTH, make_scan

LPS = np.diag([-1.0, -1.0, 1.0])


def test_paths_alone_bring_nothing_heavy():
    code = "import sys, medsal.demo as d; d.SCAN; print('monai' in sys.modules, d.SCAN.is_file())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("path", [SCAN, LESION_MASK], ids=["scan", "mask"])
def test_nibabel_and_itk_read_the_same_grid(path):
    image, other = nib.load(path), SimpleITK.ReadImage(str(path))
    assert np.allclose(image.get_sform(), image.get_qform(), atol=1e-5)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert other.GetSize() == image.shape
    direction = np.array(other.GetDirection()).reshape(3, 3) * other.GetSpacing()
    assert np.allclose(LPS @ direction, image.affine[:3, :3], atol=1e-4)
    assert np.allclose(LPS @ other.GetOrigin(), image.affine[:3, 3], atol=1e-3)
    values = SimpleITK.GetArrayFromImage(other).transpose(2, 1, 0)
    assert np.array_equal(values, np.asarray(image.dataobj))


def test_the_grid_is_oblique_left_handed_and_anisotropic():
    image = nib.load(SCAN)
    axes = image.affine[:3, :3] / image.header.get_zooms()
    assert np.linalg.det(axes) == pytest.approx(-1, abs=1e-4)
    assert np.degrees(np.arccos(np.abs(axes).max(0))).min() > 3
    assert max(image.header.get_zooms()) > 1.4 * min(image.header.get_zooms())


def test_the_mask_lies_on_the_scans_grid_and_the_truth_is_the_masks():
    scan, mask = nib.load(SCAN), nib.load(LESION_MASK)
    assert scan.shape == mask.shape
    assert np.array_equal(scan.affine, mask.affine)
    truth = json.loads(TRUTH.read_text())
    inside = np.asarray(mask.dataobj) > 0
    centre = mask.affine[:3, :3] @ np.argwhere(inside).mean(0) + mask.affine[:3, 3]
    assert centre.tolist() == pytest.approx(truth["centre_ras_mm"], abs=0.02)
    volume = inside.sum() * np.prod(mask.header.get_zooms())
    assert volume == pytest.approx(truth["volume_mm3"], rel=1e-3)
    assert np.pi / 6 * truth["diameter_mm"] ** 3 == pytest.approx(volume, rel=5e-3)
    assert truth["kind"] in CLASSES[1:]


def test_the_centre_is_where_it_was_asked_for():
    truth = json.loads(TRUTH.read_text())
    assert truth["centre_ras_mm"] == pytest.approx(make_scan.CENTRE, abs=2.0)


def test_it_ships_small_and_with_its_notice():
    assert SCAN.stat().st_size < 3 * 2**20
    assert "Louis Collins" in (SCAN.parent / "LICENSE.txt").read_text()


def test_it_can_be_made_again(tmp_path):
    make_scan.main(["--out", str(tmp_path)])
    assert json.loads((tmp_path / "truth.json").read_text()) == json.loads(TRUTH.read_text())
    for path in (SCAN, LESION_MASK):
        made, kept = nib.load(tmp_path / path.name), nib.load(path)
        assert np.array_equal(made.affine, kept.affine)
        # Rounding may fall otherwise on another processor, by one grey level.
        difference = np.asarray(made.dataobj).astype(int) - np.asarray(kept.dataobj)
        assert np.abs(difference).max() <= 1
