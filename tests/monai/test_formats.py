"""Every kind of file goes through the overlay, and its map lies on the file's own grid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from bundles import DATA, EVALUATOR, LOAD, write_bundle
from monai.bundle import ConfigWorkflow
from oblique import SHAPE, affine, write_scan
from PIL import Image

from medsal.scan import read

OVERLAY = Path(__file__).parents[2] / "configs/saliency.json"
pytestmark = pytest.mark.filterwarnings("ignore")


def volume(folder: Path) -> np.ndarray:
    return np.asarray(nibabel.load(write_scan(folder / "made.nii.gz")).dataobj)


def as_itk(folder: Path, name: str) -> Path:
    """On the oblique, left-handed grid of the NIfTI scan."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ affine()[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image = SimpleITK.GetImageFromArray(volume(folder).T.copy())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:, :3] / spacing).flatten().tolist())
    image.SetOrigin(lps[:, 3].tolist())
    SimpleITK.WriteImage(image, str(folder / name))
    return folder / name


def as_dicom(folder: Path) -> Path:
    """Oblique slices, whose files are not in their order."""
    voxels, row = volume(folder), np.array([0.8, 0.6, 0.0])
    column = np.cross([0.36, -0.48, 0.8], row)
    out = folder / "series"
    out.mkdir()
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(SHAPE[2]):
        image = SimpleITK.GetImageFromArray(voxels[..., k].T[None].copy())
        image.SetSpacing((1.5, 1.2, 2.5))
        corner = np.array([10.0, -20.0, 30.0]) + np.cross(row, column) * 2.5 * k
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"1.2.3.{k + 1}",
            "0008|0060": "MR",
            "0020|000d": "1.2",
            "0020|000e": "1.2.3",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.4f}" for x in corner),
            "0020|0037": "\\".join(f"{x:.6f}" for x in (*row, *column)),
        }
        for key, value in tags.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(out / f"{(7 * k) % SHAPE[2]:03}.dcm"))
        writer.Execute(image)
    return out


def as_picture(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(volume(folder)[..., 9].astype(np.uint8)).save(folder / "picture.png")
    return folder / "picture.png"


FORMATS: dict[str, Callable[[Path], Path]] = {
    "nifti": lambda folder: write_scan(folder / "scan.nii.gz"),
    "nrrd": lambda folder: as_itk(folder, "scan.nrrd"),
    "dicom": as_dicom,
    "png": as_picture,
}


def itself(root: Path, axes: int, spacing: float = 1.5) -> Path:
    """A bundle whose prediction is its image: `input_x_gradient` of that is the image again."""
    steps: list[dict[str, Any]] = [{"_target_": "ScaleIntensityd", "keys": "image"}]
    if axes == 3:
        even = {"_target_": "Spacingd", "keys": "image", "pixdim": [spacing] * 3}
        steps = [LOAD[2], even, *steps]
    config = {
        **DATA,
        "network_def": {
            "_target_": f"torch.nn.Conv{axes}d",
            "in_channels": 1,
            "out_channels": 1,
            "kernel_size": 1,
            "bias": False,
        },
        "preprocessing": {"_target_": "Compose", "transforms": [*LOAD[:2], *steps]},
        "inferer": {"_target_": "SimpleInferer"},
        "evaluator": {**EVALUATOR, "postprocessing": None, "val_handlers": None},
        "initialize": ["$@network.weight.data.fill_(1.0)"],
        "run": ["$@evaluator.run()"],
    }
    return write_bundle(root, config)


def overlaid(bundle: Path, scan: Path) -> Path:
    flow = ConfigWorkflow(
        config_file=[str(bundle / "configs/inference.json"), str(OVERLAY)],
        meta_file=str(bundle / "configs/metadata.json"),
        logging_file=False,
        workflow_type="infer",
        bundle_root=str(bundle),
        **{
            "dataset::data": [{"image": str(scan)}],
            "saliency::method": "input_x_gradient",
            "saliency::target": "$lambda output: output[:, 0].flatten(1).sum(1)",
            "saliency::outputs": ["nifti"],
        },
    )
    flow.initialize()
    flow.run()
    (found,) = (bundle / "eval/saliency").rglob("*_saliency.nii.gz")
    return found


def lies_on(path: Path, scan: Path, least: float) -> None:
    """The map of `itself` is the scan: same grid, and the same structure at each voxel."""
    truth, found = read(scan), nibabel.load(path)
    assert found.shape == (*truth.shape, 1)[:3]
    np.testing.assert_allclose(found.affine, truth.affine, atol=1e-4)
    voxels = found.get_fdata().reshape(truth.shape)
    inside = voxels != 0
    assert inside.mean() > 0.6
    assert np.corrcoef(voxels[inside], truth.data[0][inside])[0, 1] > least


@pytest.mark.parametrize("kind", FORMATS)
def test_the_map_lies_on_the_file(kind: str, tmp_path: Path) -> None:
    scan = FORMATS[kind](tmp_path / "in")
    found = overlaid(itself(tmp_path / "itself", 2 if kind == "png" else 3), scan)
    lies_on(found, scan, 0.98)
    if kind in ("nifti", "nrrd"):
        np.testing.assert_allclose(nibabel.load(found).affine, affine(), atol=1e-3)


def test_a_real_scan(shared_data: Path, tmp_path: Path) -> None:
    """A left-handed NRRD of thick slices."""
    scan = shared_data / "mr_tumour/brain1_image.nrrd"
    lies_on(overlaid(itself(tmp_path / "itself", 3, 3.0), scan), scan, 0.9)
