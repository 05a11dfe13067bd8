"""DICOM folders: ordered by their own positions, and refused where these form no grid."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from medsal import scan

REAL = Path(__file__).parents[2] / "../shared/data/dicom_mr_oblique"
ROW = np.array([0.8, 0.6, 0.0])
COLUMN = np.cross([0.36, -0.48, 0.8], ROW)
NORMAL = np.cross(ROW, COLUMN)
STEP = 2.5
VOXELS = np.random.default_rng(0).integers(0, 900, (8, 6, 5)).astype(np.int16)


def write(folder, names, heights, *, aside=0.0, series="1.2.3", slope="1", axes=None):
    """Slices of VOXELS at these heights along the normal, in oblique planes."""
    folder.mkdir(exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k, (name, height) in enumerate(zip(names, heights, strict=True)):
        corner = np.array([10.0, -20.0, 30.0]) + NORMAL * height + COLUMN * aside * k
        image = SimpleITK.GetImageFromArray(VOXELS[:, :, k % 5].T[None].copy())
        image.SetSpacing((0.7, 0.9, STEP))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{k + 1}",
            "0008|0060": "CT",
            "0008|103e": f"series {series}",
            "0020|000d": "1.2",
            "0020|000e": series,
            "0020|0032": "\\".join(f"{x:.4f}" for x in corner),
            "0020|0037": "\\".join(f"{x:.6f}" for x in (axes or (*ROW, *COLUMN))),
            "0028|1052": "-1024",
            "0028|1053": slope,
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / name))
        writer.Execute(image)


NAMES = ["c.dcm", "a.dcm", "e.dcm", "b.dcm", "d.dcm"]
EVEN = [STEP * k for k in range(5)]


def test_oblique_series_in_scrambled_order(tmp_path):
    write(tmp_path / "s", NAMES, EVEN)
    (tmp_path / "s" / "notes.txt").write_text("not DICOM")
    found = scan.read(tmp_path / "s")
    assert found.kind == "dicom"
    assert "1 files" in found.notes[0]
    np.testing.assert_array_equal(found.data[0], VOXELS)
    index = np.array([3, 5, 4])
    lps = np.array([10, -20, 30]) + ROW * 0.7 * 3 + COLUMN * 0.9 * 5 + NORMAL * STEP * 4
    expected = lps * [-1, -1, 1]
    np.testing.assert_allclose((found.affine @ [*index, 1])[:3], expected, atol=1e-3)


def test_single_slice_file(tmp_path):
    write(tmp_path / "s", NAMES[:1], EVEN[:1])
    assert scan.read(tmp_path / "s" / "c.dcm").shape == (8, 6, 1)


@pytest.mark.parametrize(
    ("heights", "said"),
    [
        ([0, 2.5, 10, 12.5, 15], r"lacks 2 slices \(2 missing between a.dcm at .* and e.dcm at"),
        ([0, 2.5, 2.5, 5, 7.5], r"1 duplicate slices \(at .* mm a.dcm and e.dcm\)"),
        ([0, 2.5, 5, 8.5, 11], r"not evenly spaced, 2.50 mm as a rule but 3.50 mm between e.dcm"),
    ],
)
def test_positions_that_form_no_grid(tmp_path, heights, said):
    write(tmp_path / "s", NAMES, heights)
    with pytest.raises(ValueError, match=said):
        scan.read(tmp_path / "s")


def test_rounded_positions_pass(tmp_path):
    write(tmp_path / "s", NAMES, [0, 2.55, 5, 7.45, 10])
    assert scan.read(tmp_path / "s").shape == (8, 6, 5)


def test_gantry_tilt_tells_its_angle(tmp_path):
    write(tmp_path / "s", NAMES, EVEN, aside=STEP * np.tan(np.radians(15)))
    with pytest.raises(ValueError, match=r"tilted by 15.0 degrees"):
        scan.read(tmp_path / "s")


def test_several_series_are_listed(tmp_path):
    write(tmp_path / "s", NAMES[:3], EVEN[:3])
    write(tmp_path / "s", NAMES[3:], EVEN[:2], series="1.2.9")
    with pytest.raises(ValueError, match=r"2 DICOM series \(.*3 slices of 'series 1.2.3'"):
        scan.read(tmp_path / "s")


def test_several_orientations(tmp_path):
    write(tmp_path / "s", NAMES[:3], EVEN[:3])
    write(tmp_path / "s", NAMES[3:], EVEN[:2], axes=(0, 1, 0, 0, 0, 1))
    with pytest.raises(ValueError, match=r"several orientations"):
        scan.read(tmp_path / "s")


def test_damaged_slice_is_named(tmp_path):
    write(tmp_path / "s", NAMES, EVEN)
    whole = (tmp_path / "s" / "b.dcm").read_bytes()
    (tmp_path / "s" / "b.dcm").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"b.dcm"):
        scan.read(tmp_path / "s")


def test_folder_without_dicom(tmp_path):
    with pytest.raises(ValueError, match="one DICOM series, found no files"):
        scan.read(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(ValueError, match="none of them a DICOM image"):
        scan.read(tmp_path)


@pytest.mark.skipif(not REAL.exists(), reason="the real scans are not here")
def test_real_series_with_rounded_positions():
    found = scan.read(REAL)
    assert found.shape == (256, 256, 20)
    axes = found.affine[:3, :3] / np.linalg.norm(found.affine[:3, :3], axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-5)
