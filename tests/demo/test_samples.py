"""Samples: seeded, balanced, and of a head that training never sees."""

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from medsal.demo import ANATOMY, augment
from medsal.demo.heads import MM, SHAPE, TRAINING, load_head
from medsal.demo.lesions import generator
from medsal.demo.samples import LesionDataset, _anatomy, in_order

WINDOW = (48, 40, 44)


def test_the_same_seed_gives_the_same_sample_and_another_another():
    first = LesionDataset(6, ("s1",), 3, window=WINDOW)[4]
    _anatomy.cache_clear()
    again = LesionDataset(6, ("s1",), 3, window=WINDOW)[4]
    other = LesionDataset(6, ("s1",), 4, window=WINDOW)[4]
    assert torch.equal(first["image"].as_tensor(), again["image"].as_tensor())
    assert torch.equal(first["mask"], again["mask"])
    assert not torch.equal(first["image"].as_tensor(), other["image"].as_tensor())


def test_samples_do_not_touch_the_global_stream():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    LesionDataset(3, ("s1",), window=WINDOW)[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_whole_sample_has_the_bundles_grid_and_a_lesion_in_its_mask():
    data = LesionDataset(3, ("colin27",), 11, "plain")
    none, bright, ring = (data[i] for i in range(3))
    assert [s["label"] for s in (none, bright, ring)] == [0, 1, 2]
    assert not none["mask"].any()
    assert torch.equal(bright["mask"], ring["mask"])
    for sample in (none, bright, ring):
        assert sample["image"].shape == (1, *SHAPE)
        assert sample["image"].affine.diag().tolist() == [MM, MM, MM, 1.0]
        assert torch.isfinite(sample["image"].as_tensor()).all()
    inside = bright["mask"]
    gain = bright["image"].as_tensor()[inside].mean() - none["image"].as_tensor()[inside].mean()
    assert gain > 0.2
    away = torch.from_numpy(ndimage.distance_transform_edt(~inside[0].numpy(), MM)[None] > 40)
    change = (bright["image"].as_tensor() - none["image"].as_tensor()).abs()[away]
    assert change.max() < 0.15  # the noise of two scans, and nothing else


def test_training_never_sees_the_held_out_head():
    assert "colin27" not in TRAINING


@pytest.mark.parametrize("name", ["colin27", "s1"])
def test_packaged_heads_have_a_mask_on_their_grid_and_a_clean_header(name):
    head, brain = (nib.load(ANATOMY / f"{name}{part}.nii.gz") for part in ("", "_brain"))
    assert head.shape == brain.shape
    assert np.array_equal(head.affine, brain.affine)
    assert np.allclose(head.get_sform(), head.get_qform(), atol=1e-5)
    assert (int(head.header["sform_code"]), int(head.header["qform_code"])) == (1, 1)
    assert head.header.get_xyzt_units()[0] == "mm"
    litres = (np.asarray(brain.dataobj) > 0).sum() * np.prod(head.header.get_zooms()) / 1e6
    assert 1.1 < litres < 1.9
    assert (ANATOMY / "LICENSE.txt").read_text().count(f"{name}.nii.gz") == 1


def test_a_head_is_scaled_and_centred():
    head = load_head("s1")
    assert head.image.shape == SHAPE
    assert float(head.image[head.brain > 0.5].median()) == pytest.approx(1, abs=0.02)
    inside = torch.nonzero(head.brain > 0.5).double()
    middle = (inside.amin(0) + inside.amax(0)) / 2
    assert (middle - (torch.tensor(SHAPE) - 1) / 2).abs().max() <= 1.5


def test_moving_without_strength_keeps_or_mirrors_the_volume():
    volume = torch.rand((1, 12, 14, 10), generator=generator(0))
    at = (torch.tensor([12.0, 14.0, 10.0]) - 1) / 2
    moved = [augment.move(generator(s), volume, (12, 14, 10), at, 0.0) for s in range(8)]
    kept = [torch.allclose(m, volume, atol=1e-5) for m in moved]
    mirrored = [torch.allclose(m, volume.flip(1), atol=1e-5) for m in moved]
    assert all(a != b for a, b in zip(kept, mirrored, strict=True))
    assert any(kept)
    assert any(mirrored)


def test_a_window_is_the_same_voxels_as_the_whole():
    volume = torch.rand((1, 12, 14, 10), generator=generator(0))
    at = torch.tensor([5.0, 6.0, 5.0])
    window = augment.move(generator(1), volume, (5, 5, 5), at, 0.0)[0]
    part = volume[0, 3:8, 4:9, 3:8]
    assert torch.allclose(window, part, atol=1e-5) or torch.allclose(
        window, part.flip(0), atol=1e-5
    )


def test_curves_keep_the_order_of_tissues():
    grey = torch.linspace(0, 2.2, 50).view(5, 5, 2)
    for seed in range(5):
        curve = augment.recolour(generator(seed), grey).flatten()
        assert (curve.diff() > 0).all()
        assert float(augment.recolour(generator(seed), torch.ones(1, 1, 1))) == pytest.approx(1)


def test_batches_are_in_order():
    assert in_order([2, 1], [2, 3]) == [[0, 1], [2, 3], [4, 5, 6]]


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="'augmented' or 'plain'"):
        LesionDataset(3, ("s1",), mode="hard")
    with pytest.raises(ValueError, match="count >= 1"):
        LesionDataset(0, ("s1",))
    with pytest.raises(ValueError, match="at least 32 voxels"):
        LesionDataset(3, ("s1",), window=(8, 8, 8))
    with pytest.raises(IndexError, match="sample 3 of 3"):
        LesionDataset(3, ("s1",))[3]
    with pytest.raises(LookupError, match="there are mni152, s1, colin27"):
        load_head("colin")
