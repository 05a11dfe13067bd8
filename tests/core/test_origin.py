"""What a MetaTensor brings along: the affine, and the file that it came from."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from core_nets import Tiny
from monai.data import DataLoader, Dataset, MetaTensor, list_data_collate
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Spacingd
from PIL import Image as Picture

import medsal

# MONAI's reader of DICOM looks for a decoder that few have.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodec")

AFFINES = [
    np.array([[-1.5, 0.2, 0, 10], [0.2, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]], float),
    np.diag([1.0, 1, 2, 1]),
]


def files(folder: Path) -> list[dict[str, str]]:
    found = []
    for i, affine in enumerate(AFFINES):
        path = folder / f"scan{i}.nii.gz"
        data = np.random.default_rng(i).random((7 + i, 8, 9)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(data, affine), path)
        found.append({"image": str(path)})
    return found


def test_one_scan(tmp_path: Path) -> None:
    load = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", "RAS", labels=None),
        ]
    )
    scan = load(files(tmp_path)[0])["image"]
    x = scan[None]
    before = (x.affine.clone(), dict(x.meta))
    result = medsal.explain(Tiny(3), x)
    assert torch.equal(result.affine, x.affine.double())
    assert type(result.data) is type(result.image) is type(result.output) is torch.Tensor
    (origin,) = result.origins
    assert origin.path == str(tmp_path / "scan0.nii.gz")
    torch.testing.assert_close(origin.affine.numpy(), AFFINES[0], rtol=1e-6, atol=1e-6)
    assert origin.shape == (7, 8, 9)
    assert torch.equal(x.affine, before[0])
    assert dict(x.meta).keys() == before[1].keys()
    where = torch.tensor([*result.peak(), 1]).double()
    assert result.peak_mm() == pytest.approx((result.affine @ where)[:3].tolist())


def test_a_batch_of_scans_with_different_affines(tmp_path: Path) -> None:
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), Cut()])
    dataset = Dataset(files(tmp_path), load)
    loader = DataLoader(dataset, batch_size=2, collate_fn=list_data_collate)
    (batch,) = [each["image"] for each in loader]
    result = medsal.explain(Tiny(3), batch)
    assert result.affine.shape == (2, 4, 4)
    for i in range(2):
        torch.testing.assert_close(result[i].affine.numpy(), AFFINES[i], rtol=1e-6, atol=1e-6)
        (origin,) = result[i].origins
        assert origin.path == str(tmp_path / f"scan{i}.nii.gz")
        torch.testing.assert_close(origin.affine.numpy(), AFFINES[i], rtol=1e-6, atol=1e-6)
        assert origin.shape == (7 + i, 8, 9)


class Cut:
    def __call__(self, data: dict[str, MetaTensor]) -> dict[str, MetaTensor]:
        return {**data, "image": data["image"][:, :6]}


def test_a_batch_of_scans_with_one_affine(tmp_path: Path) -> None:
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), Spacingd("image", 2.0)])
    dataset = Dataset([files(tmp_path)[0]] * 2, load)
    (batch,) = [each["image"] for each in DataLoader(dataset, batch_size=2)]
    result = medsal.explain(Tiny(3), batch)
    assert result.affine.shape == (4, 4)
    assert torch.equal(result.affine, batch.affine[0].double())
    assert [each.shape for each in result.origins] == [(7, 8, 9)] * 2


def test_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Picture.fromarray(np.arange(80, dtype=np.uint8).reshape(8, 10)).save(path)
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image")])
    x = load({"image": str(path)})["image"][None]
    result = medsal.explain(Tiny(2), x)
    assert result.origins[0].path == str(path)
    assert result.affine is None or result.affine.shape == (4, 4)


def test_a_plain_tensor_and_a_bare_metatensor() -> None:
    plain = medsal.explain(Tiny(2), torch.rand(2, 1, 5, 6))
    assert plain.affine is None
    assert [each.path for each in plain.origins] == [None, None]
    bare = medsal.explain(Tiny(3), MetaTensor(torch.rand(1, 1, 5, 6, 7)))
    assert torch.equal(bare.affine, torch.eye(4).double())
    assert bare.origins[0].path is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_metatensor_in_any_mode(mode: type[torch.no_grad]) -> None:
    torch.manual_seed(4)
    model = Tiny(3)
    x = MetaTensor(torch.rand(1, 1, 5, 6, 7), affine=torch.tensor(AFFINES[0]))
    usual = medsal.explain(model, x, 0)
    with mode():
        result = medsal.explain(model, x, 0)
        assert torch.equal(result.affine, usual.affine)
    assert torch.equal(result.data, usual.data)
