"""Oblique scans and a small network, made for the test."""

import warnings
from collections.abc import Callable
from pathlib import Path

with warnings.catch_warnings():
    # MONAI imports ignite when it is first asked for, and that scripts parts of torch.
    warnings.simplefilter("ignore")
    import ignite.engine  # noqa: F401

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.networks.nets import DenseNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    ScaleIntensityd,
    Spacingd,
)
from oblique import write_scan


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    """Two scans, on grids that are turned differently."""
    return [write_scan(tmp_path / f"in/scan{i}.nii.gz", 0.2 - 0.3 * i) for i in range(2)]


@pytest.fixture
def network() -> torch.nn.Module:
    return DenseNet(3, 1, 3, init_features=8, growth_rate=4, block_config=(2, 2), dropout_prob=0.2)


@pytest.fixture
def preprocessing() -> Compose:
    return Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", "RAS", labels=None),
            Spacingd("image", (3.0, 3.0, 3.0)),
            ScaleIntensityd("image"),
        ]
    )


@pytest.fixture
def loaded(preprocessing: Compose) -> Callable[..., DataLoader]:
    """A loader of scans; their crops to one size make a batch of several."""

    def load(paths: list[Path], batch_size: int = 1, transform=None) -> DataLoader:
        data = Dataset([{"image": str(path)} for path in paths], transform or preprocessing)
        return DataLoader(data, batch_size=batch_size, num_workers=0)

    return load
