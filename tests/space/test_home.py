"""Maps come home through MONAI's transforms, or are refused where these do not tell the affine."""

import nibabel
import numpy as np
import pytest
import torch
from monai import transforms as mt
from monai.data import MetaTensor

import medsal
from medsal.scan import formats, read
from medsal.space import Grid, agree, come_home, home

K = "image"
# MONAI says so where pydicom is there and a codec is not.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")

RAS, S = mt.Orientationd(K, "RAS", labels=None), mt.Spacingd(K, (1.5, 1.5, 1.5))
CROP = mt.CropForegroundd(K, source_key=K, select_fn=lambda x: x > 30)
SCALE = mt.ScaleIntensityd(K)


def faithful():
    """Pipelines that tell the affine what they did (reference: the two ways back, measured)."""
    yield "nothing", []
    yield "orientation", [RAS]
    yield "spacing", [S]
    yield "spacing align_corners", [mt.Spacingd(K, (1.5, 1.5, 1.5), align_corners=True)]
    yield "spacing nearest", [mt.Spacingd(K, (1.5, 1.5, 1.5), mode="nearest")]
    yield "resize area", [mt.Resized(K, (32, 32, 32))]
    yield "resize trilinear", [mt.Resized(K, (32, 32, 32), mode="trilinear")]
    yield "resize corners", [mt.Resized(K, (32, 32, 32), mode="trilinear", align_corners=True)]
    yield "resize longest", [mt.Resized(K, 32, size_mode="longest", mode="trilinear")]
    yield "resize nearest", [mt.Resized(K, (32, 32, 32), mode="nearest")]
    yield "foreground", [CROP]
    yield "pad", [SCALE, mt.SpatialPadd(K, (64, 50, 40))]
    yield "divisible", [SCALE, mt.DivisiblePadd(K, 16)]
    yield "centre", [mt.CenterSpatialCropd(K, (30, 30, 20))]
    yield "crop or pad", [mt.ResizeWithPadOrCropd(K, (32, 48, 20))]
    yield "o s crop pad", [RAS, S, CROP, SCALE, mt.SpatialPadd(K, (64, 64, 64))]
    yield "o s crop area", [RAS, S, CROP, SCALE, mt.Resized(K, (32, 32, 32))]
    yield "turns", [mt.Rotate90d(K, 1, (0, 2)), mt.Flipd(K, 1), mt.RandFlipd(K, 1.0, 0)]
    yield "zoom", [mt.Zoomd(K, 1.3)]
    yield "affine", [mt.Affined(K, rotate_params=(0.2, 0.1, 0.3), scale_params=(1.1, 0.9, 1))]
    yield "random crop", [mt.RandSpatialCropd(K, (24, 24, 16), random_size=False)]
    yield "window", [mt.ScaleIntensityRanged(K, 20, 120, 0, 1, clip=True)]
    yield "percentiles", [mt.ScaleIntensityRangePercentilesd(K, 5, 95, 0, 1, clip=True)]
    yield "z-score", [mt.NormalizeIntensityd(K, nonzero=True)]
    yield "inverted", [mt.Lambdad(K, lambda x: 1 - x)]
    yield "plain torch", [mt.ToTensord(K)]


def load():
    return mt.LoadImaged(K, ensure_channel_first=True, reader="NibabelReader")


def run(path, steps, lazy=False):
    pipeline = mt.Compose([load(), *steps], lazy=lazy)
    pipeline.set_random_state(0)
    return pipeline({K: str(path)})[K][None]


def error_mm(image, result, make, data=None):
    """How far the ramp, laid on the network's grid in world space, is off at home."""
    ramp = make.mm(image.shape[2:], image.affine.numpy())
    moved = home(medsal.SaliencyMap(**{**vars(result), "data": torch.as_tensor(ramp)[None, None]}))
    truth = make.mm(moved.data.shape[2:], moved.affine.numpy())
    # Within half a voxel of the network's border the ramp is continued as a constant.
    affine = torch.linalg.inv(image.affine) @ moved.affine
    index = torch.stack(torch.meshgrid(*map(torch.arange, truth.shape), indexing="ij")).double()
    at = torch.einsum("ij,j...->i...", affine[:3, :3], index) + affine[:3, 3].reshape(3, 1, 1, 1)
    last = torch.tensor(image.shape[2:]).reshape(3, 1, 1, 1) - 1
    inner = ((at >= -1e-9) & (at <= last + 1e-9)).all(0)
    assert inner.sum() > 500
    assert bool(moved.seen[0, 0][inner].all())
    return float(np.abs(moved.data[0, 0].numpy() - truth)[inner].max())


@pytest.mark.parametrize("steps", [pytest.param(s, id=name) for name, s in faithful()])
def test_ramp_comes_home_to_a_thousandth_of_a_mm(phantom, make, steps):
    image = run(phantom, steps)
    assert error_mm(image, make.result(image), make) < 1e-3


def test_lazy_pipeline(phantom, make):
    image = run(phantom, [RAS, S, CROP, mt.Resized(K, (32, 32, 32), mode="trilinear")], lazy=True)
    assert error_mm(image, make.result(image), make) < 1e-3


def test_canonical_reader_goes_home_to_the_file_itself(phantom, make):
    load = mt.LoadImaged(
        K, ensure_channel_first=True, reader="NibabelReader", as_closest_canonical=True
    )
    image = load({K: str(phantom)})[K][None]
    assert error_mm(image, make.result(image), make) < 1e-3


UNFAITHFUL = {
    "transposed": ([mt.Transposed(K, (0, 2, 1, 3))], "axes are put in the order"),
    "permuted": ([mt.Lambdad(K, lambda x: x.permute(0, 2, 3, 1))], "axes are put in the order"),
    "flipped 0": ([mt.Lambdad(K, lambda x: x.flip(1))], "axis 0 is flipped"),
    "flipped 1": ([mt.Lambdad(K, lambda x: x.flip(2))], "axis 1 is flipped"),
    "flipped 2": ([mt.Lambdad(K, lambda x: x.flip(3))], "axis 2 is flipped"),
    "cropped 1": ([mt.Lambdad(K, lambda x: x[:, 1:])], "shifted by 1 voxels along axis 0"),
    "cropped 5": ([mt.Lambdad(K, lambda x: x[:, 5:])], "shifted by"),
    "resized": ([mt.Lambdad(K, lambda x: x[:, ::2, ::2])], ""),
    "flipped late": ([RAS, S, mt.Lambdad(K, lambda x: x.flip(1))], "axis 0 is flipped"),
    "another": ([mt.Lambdad(K, torch.rand_like)], "no flip, swap"),
}


@pytest.mark.parametrize("name", UNFAITHFUL)
def test_transforms_that_hide_what_they_did_are_refused(phantom, make, name):
    steps, said = UNFAITHFUL[name]
    result = make.result(run(phantom, steps))
    with pytest.raises(ValueError, match=f"does not tell what the transforms did.*{said}") as error:
        home(result)
    assert "Invertd" in str(error.value)
    assert home(result, check=False).data.shape[2:] == make.shape


# Agreement as it is, and at the best other place, measured on real scans:
#   brain1  0.982 / 0.847 flipped   O+S+crop+resize 0.969 / 0.881
#   lung1   0.998 / 0.879 shifted   O+S+crop+resize 0.993 / 0.841, CT window 0.859 / 0.807
#   dicom   0.998 / 0.942 flipped   O+S+crop+resize 0.989 / 0.942
#   aniso   0.962 / 0.819 flipped   O+S+crop+resize 0.971 / 0.882
#   MNI152  0.998 / 0.991 flipped; it is symmetric on purpose, so that a flip cannot be told.
# The best other place leaves this part of the variance unexplained, relative to as it is: at least
# 0.80 where the affine is right (a sharpened image of 20 thick slices, all else above 1), at most
# 0.55 where it is wrong and r is not below 0.3 anyway. The limit is 0.65.
REAL = ["mr_tumour/brain1_image.nrrd", "small_nifti/aniso_vox.nii.gz"]


@pytest.mark.parametrize("name", REAL)
def test_real_scans(shared_data, make, name):
    load = mt.LoadImaged(K, ensure_channel_first=True)
    steps = [load, RAS, mt.Spacingd(K, (4, 4, 4)), CROP, SCALE, mt.Resized(K, (40, 40, 40))]
    image = mt.Compose(steps)({K: str(shared_data / name)})[K][None]
    assert come_home(make.result(image))[1].r > 0.9
    for axis in (2, 3, 4):
        with pytest.raises(ValueError, match=f"axis {axis - 2} is flipped"):
            home(make.result(image.flip(axis)))
    with pytest.raises(ValueError, match="does not tell"):
        home(make.result(image.transpose(2, 3)))


def test_what_comes_home(phantom, make):
    image = run(phantom, [mt.CenterSpatialCropd(K, (30, 30, 20)), mt.Resized(K, (24, 24, 24))])
    net = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(3)
    )
    net(image.as_tensor())
    result = medsal.explain(net, image, target=[0, 2])
    found = result.home()
    file = nibabel.load(phantom)
    assert found.data.shape == (1, 2, *make.shape)
    assert found.image.shape == (1, 1, *make.shape)
    assert found.seen.shape == (1, 1, *make.shape)
    assert found.data.dtype == torch.float32
    np.testing.assert_allclose(found.image[0, 0], file.get_fdata(), atol=1e-4)
    np.testing.assert_allclose(found.affine, file.affine)
    assert float(found.seen.float().mean()) == pytest.approx(30 * 30 * 20 / np.prod(make.shape))
    assert not found.data[:, :, ~found.seen[0, 0]].any()
    assert any("did not see" in note for note in found.notes)
    assert found.origins[0].path == result.origins[0].path
    assert found.home() is found


def test_a_scan_that_was_read_already_is_not_read_again(phantom, make, monkeypatch):
    result = make.result(run(phantom, [mt.CenterSpatialCropd(K, (30, 30, 20))]))
    scan, expected = read(phantom), home(result)
    monkeypatch.setitem(formats.READERS, "nifti", None)
    found = home(result, scan=scan)
    assert torch.equal(found.data, expected.data)
    assert torch.equal(found.image, expected.image)
    assert found.notes == expected.notes


def test_mask_of_the_network_comes_home(phantom, make):
    image = run(phantom, [])
    seen = torch.zeros(1, 1, *make.shape, dtype=torch.bool)
    seen[:, :, 10:20] = True
    found = home(make.result(image * 2, seen=seen))
    assert torch.equal(found.seen, seen)
    assert not found.data[~seen].any()


def test_batches_go_home_one_by_one(phantom, make):
    image = run(phantom, [])
    batch = make.result(torch.cat([image, image]))
    with pytest.raises(ValueError, match=r"expected one sample, got 2.*result\[i\]"):
        home(batch)


def test_file_that_is_gone(tmp_path, phantom, make):
    copy = tmp_path / "copy.nii.gz"
    copy.write_bytes(phantom.read_bytes())
    image = run(copy, [RAS, S])
    copy.unlink()
    found = home(make.result(image))
    assert found.data.shape[2:] == make.shape
    np.testing.assert_allclose(found.affine, nibabel.load(phantom).affine, atol=1e-6)
    assert any("copy.nii.gz is gone" in note for note in found.notes)


@pytest.mark.parametrize(
    "image",
    [torch.rand(1, 1, 8, 8, 8), MetaTensor(torch.rand(1, 1, 8, 8, 8))],
    ids=["plain", "new"],
)
def test_lost_place_tells_why(make, image):
    with pytest.raises(ValueError, match="ToTensord, EnsureTyped"):
        home(make.result(image))


def test_one_axis_has_no_place(make):
    with pytest.raises(ValueError, match="2 or 3 spatial axes, got 1"):
        home(make.result(MetaTensor(torch.rand(1, 1, 8))))


def test_constant_image_cannot_be_checked(phantom, make):
    image = run(phantom, [mt.Lambdad(K, torch.ones_like)])
    found = home(make.result(image))
    assert any("constant" in note for note in found.notes)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pictures(tmp_path, make, mode):
    from PIL import Image

    array = make.lumps((60, 44, 1))[..., 0]
    array = np.clip(array * 1.5, 0, 255).astype(np.uint8)
    Image.fromarray(array).convert(mode).save(tmp_path / "a.png")
    load = mt.LoadImaged(K, ensure_channel_first=True, reader="PILReader")
    image = mt.Compose([load, SCALE, mt.Resized(K, (32, 32))])({K: str(tmp_path / "a.png")})[K]
    found = home(make.result(image[None]))
    assert found.image.shape == (1, len(mode) if mode == "RGB" else 1, 44, 60)
    with pytest.raises(ValueError, match="axis 1 is flipped"):
        home(make.result(image[None].flip(3)))


def test_slice_of_a_volume(phantom, make):
    image = run(phantom, [])
    affine = image.affine.clone()
    affine[:3, 3] = (affine @ torch.tensor([0, 0, 7, 1.0], dtype=torch.float64))[:3]
    flat = image.as_tensor()[..., 7]
    found = home(make.result(flat, affine=affine, origins=make.result(image).origins))
    assert found.data.shape[2:] == make.shape
    assert found.seen[0, 0].sum(-1).max() == 1
    assert bool(found.seen[0, 0, :, :, 7].all())


def test_fine_detail_on_odd_grids_is_recognised():
    """An axis that the affine says is turned, with an odd number of voxels, is in its place."""
    rng = np.random.default_rng(0)
    scan = rng.normal(size=(33, 41, 25)).astype(np.float32)
    home = Grid(scan.shape, np.diag([-2.0, 2.0, 2.0, 1.0]))
    turned = np.diag([2.0, 2.0, 2.0, 1.0])
    turned[0, 3] = -2.0 * 32
    found = agree(scan[None, ::-1].copy(), Grid(scan.shape, turned), scan[None], home)
    assert not found.refused
    assert found.r == pytest.approx(1.0, abs=1e-3)
