"""What a scan file may be, and what a broken one is told."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from medsal import scan

RAS = np.array([[-1.1, 0.2, 0.1, 7], [0.2, 1.3, -0.3, -9], [0.1, 0.3, 2.9, 4], [0, 0, 0, 1.0]])


@pytest.fixture
def voxels():
    return np.random.default_rng(0).normal(100, 20, (7, 9, 5)).astype(np.float32)


def nifti(path, data, affine=RAS, **header):
    image = nibabel.Nifti1Image(data, affine)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_keeps_voxels_and_place(tmp_path, voxels, suffix):
    found = scan.read(nifti(tmp_path / f"Ms X (1){suffix}", voxels))
    assert found.name == "Ms-X-1"
    assert found.kind == "nifti"
    assert found.shape == (7, 9, 5)
    np.testing.assert_array_equal(found.data[0], voxels)
    np.testing.assert_allclose(found.affine, RAS, atol=1e-5)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_itk_formats_keep_voxels_and_place(tmp_path, voxels, suffix, shear):
    turn = np.array([[0.8, -0.6, shear], [0.6, 0.8, 0], [0, 0, -1]])
    turn /= np.linalg.norm(turn, axis=0)
    image = SimpleITK.GetImageFromArray(voxels.T.copy())
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((5.0, 6.0, 7.0))
    path = tmp_path / f"a{suffix}"
    SimpleITK.WriteImage(image, str(path))
    found = scan.read(path)
    np.testing.assert_array_equal(found.data[0], voxels)
    index = (6, 2, 4)
    x, y, z = image.TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose((found.affine @ [*index, 1])[:3], (-x, -y, z), atol=1e-5)


@pytest.mark.filterwarnings("ignore:NvImgCodec")
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)])
def test_picture_is_read_as_monai_does(tmp_path, mode, channels):
    array = np.random.default_rng(0).integers(0, 255, (6, 4, 3), np.uint8)
    Image.fromarray(array).convert(mode).save(tmp_path / "a.png")
    found = scan.read(tmp_path / "a.png")
    assert found.data.shape == (channels, 4, 6)
    assert found.kind == "picture"
    np.testing.assert_array_equal(found.affine, np.eye(4))
    if mode in ("L", "RGB"):
        from monai.data import PILReader
        from monai.transforms import LoadImage

        load = LoadImage(reader=PILReader, ensure_channel_first=True)
        np.testing.assert_array_equal(load(tmp_path / "a.png").numpy(), found.data)


def test_fourth_axis_counts_as_channels(tmp_path, voxels):
    path = nifti(tmp_path / "a.nii", np.stack([voxels, voxels + 1], -1))
    found = scan.read(path)
    assert found.data.shape == (2, 7, 9, 5)
    assert "fourth axis" in found.notes[0]
    with pytest.raises(ValueError, match=r"has 2 channels and the network takes 1; if its fourth"):
        scan.read(path, channels=1)


def test_headers_that_readers_disagree_on_are_noted(tmp_path, voxels):
    image = nibabel.Nifti1Image(voxels, None)
    assert "both 0" in scan.read(saved(image, tmp_path / "zero.nii")).notes[0]
    image.set_sform(RAS, 2)
    image.set_qform(np.diag([1.0, 1, 1, 1]), 1)
    assert "disagree by up to" in scan.read(saved(image, tmp_path / "two.nii")).notes[0]
    image.set_qform(image.get_sform(), 1)
    image.header.set_xyzt_units("meter")
    assert any("unit is meter" in n for n in scan.read(saved(image, tmp_path / "m.nii")).notes)


def saved(image, path):
    nibabel.save(image, path)
    return path


def test_nan_is_counted_or_replaced(tmp_path, voxels):
    voxels[0, 0, :2], voxels[1, 1, 1] = np.nan, np.inf
    path = nifti(tmp_path / "a.nii", voxels)
    with pytest.raises(ValueError, match="holds 3 voxels of 315 that are NaN or infinite"):
        scan.read(path)
    found = scan.read(path, finite=False)
    assert np.isfinite(found.data).all()
    assert "3 voxels" in found.notes[0]


def broken_files(folder, voxels):
    whole = nifti(folder / "whole.nii.gz", voxels).read_bytes()
    plain = gzip.decompress(whole)
    (folder / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "short.nii").write_bytes(plain[:-100])
    (folder / "head.nii.gz").write_bytes(whole[:20])
    (folder / "bad.nii.gz").write_bytes(whole[:400] + b"\0" * 90 + whole[490:])
    (folder / "text.nii").write_text("hello " * 100)
    (folder / "text.nii.gz").write_text("hello " * 100)
    (folder / "text.nrrd").write_text("hello " * 100)
    (folder / "text.mha").write_text("hello " * 100)
    (folder / "text.png").write_text("hello " * 100)
    (folder / "empty.nii.gz").write_bytes(b"")
    (folder / "notes.txt").write_text("hello")
    nifti(folder / "complex.nii", voxels.astype(np.complex64))
    nifti(folder / "flat.nii", voxels)
    # The sform's third row: no voxel has a height.
    whole = bytearray((folder / "flat.nii").read_bytes())
    whole[280 + 32 : 280 + 48] = bytes(16)
    (folder / "flat.nii").write_bytes(whole)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels.T.copy()), str(folder / "a.nrrd"))
    (folder / "cut.nrrd").write_bytes((folder / "a.nrrd").read_bytes()[:-300])
    Image.fromarray(np.zeros((50, 50, 3), np.uint8) + 7).save(folder / "a.png")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:80])


SAID = {
    "cut.nii.gz": "truncated or damaged",
    "short.nii": "truncated or damaged",
    "head.nii.gz": "truncated or damaged",
    "bad.nii.gz": "truncated or damaged",
    "text.nii": "not a NIfTI",
    "text.nii.gz": "truncated or damaged",
    "text.nrrd": "not an image that ITK reads|truncated or damaged",
    "text.mha": "not an image that ITK reads|truncated or damaged",
    "text.png": "not a picture",
    "empty.nii.gz": "is empty",
    "notes.txt": "not a scan that medsal reads: expected one of .nii",
    "complex.nii": "complex",
    "flat.nii": "does not say where its voxels lie",
    "cut.nrrd": "truncated or damaged",
    "cut.png": "truncated or damaged",
}


@pytest.mark.parametrize("name", SAID)
def test_broken_files_say_so_in_one_line(tmp_path, voxels, name):
    broken_files(tmp_path, voxels)
    with pytest.raises(ValueError, match=SAID[name]) as error:
        scan.read(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        scan.read(tmp_path / "a.nii")
