"""A small bundle and an oblique scan, made for the test."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

CONFIG = {
    "bundle_root": ".",
    "image_key": "image",
    "network_def": {
        "_target_": "DenseNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "init_features": 8,
        "growth_rate": 4,
        "block_config": [2, 2],
    },
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image"},
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [2.0, 2.0, 2.0]},
            {"_target_": "ScaleIntensityd", "keys": "image"},
        ],
    },
}
METADATA = {
    "version": "0.3.1",
    "network_data_format": {
        "inputs": {"image": {"num_channels": 1, "spatial_shape": [32, 32, 32]}},
        "outputs": {"pred": {"channel_def": {"0": "none", "1": "bright", "2": "ring"}}},
    },
}
AFFINE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.1, 0.2, 0.3) @ np.diag([-1.5, 1.2, 2.5]), [30.0, -40.0, -20.0]
)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the structure of the model zoo's, and random weights."""
    root = tmp_path_factory.mktemp("bundles") / "lesions"
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "configs/inference.json").write_text(json.dumps(CONFIG))
    (root / "configs/metadata.json").write_text(json.dumps(METADATA))
    torch.manual_seed(0)
    network = ConfigParser(dict(CONFIG)).get_parsed_content("network_def")
    torch.save(network.state_dict(), root / "models/model.pt")
    return root


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An oblique, left-handed, anisotropic scan with structure that no flip leaves alone."""
    grid = np.stack(np.meshgrid(*map(np.arange, (36, 40, 22)), indexing="ij")).astype(float)
    voxels = 400 * np.exp(-((grid - np.reshape([10, 28, 7], (3, 1, 1, 1))) ** 2).sum(0) / 40)
    voxels += grid[0] * 2 + grid[1] + 3 * grid[2]
    path = tmp_path / "patient 7.nii.gz"
    image = nibabel.Nifti1Image(voxels.astype(np.int16), AFFINE)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    nibabel.save(image, path)
    return path
