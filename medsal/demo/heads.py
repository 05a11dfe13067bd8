"""Heads without lesions: MNI152 and S1 to train on, Colin27 to test on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medsal.demo import ANATOMY

#: The bundle's grid: voxels along RAS axes, and their edge [mm].
SHAPE, MM = (96, 112, 96), 2.0
#: Heads that training may use. Colin27 is not among them and must not be.
TRAINING = ("mni152", "s1")


@dataclass(frozen=True, eq=False)
class Head:
    """A head on a cubic grid along RAS axes, grey white matter near 1.

    Attributes:
        image: `(x, y, z)` float32, the median of the brain is 1.
        brain: `(x, y, z)` float32, 1 in the brain.
        outside: `(x, y, z)` float32, distance from the brain [mm], 0 in it.
        mm: edge of a voxel [mm].
        affine: 4x4, voxel to RAS mm.
    """

    image: Tensor
    brain: Tensor
    outside: Tensor
    mm: float
    affine: Tensor


def _mni152() -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return nilearn's MNI152 T1 template and its brain mask."""
    try:
        from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
    except ImportError as error:
        raise ImportError(
            "the head 'mni152' comes with nilearn: pip install 'medsal[train]'"
        ) from error
    return load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)


def load_head(name: str, mm: float = MM, shape: Sequence[int] | None = SHAPE) -> Head:
    """Load a head by name on a grid of `mm`, its brain's centre in the middle of `shape`.

    Raises:
        LookupError: No head has this name.
        ImportError: 'mni152' is asked for and nilearn is not installed.
    """
    return _load_head(name, float(mm), None if shape is None else tuple(shape))


@lru_cache(maxsize=8)
def _load_head(name: str, mm: float, shape: tuple[int, ...] | None) -> Head:
    known = (*TRAINING, "colin27")
    if name not in known:
        raise LookupError(f"no head is called {name!r}; there are {', '.join(known)}")
    files = [ANATOMY / f"{name}.nii.gz", ANATOMY / f"{name}_brain.nii.gz"]
    head, brain = _mni152() if name == "mni152" else (_read(file) for file in files)
    voxel = float(head.affine[0, 0])
    inside = np.asarray(brain.dataobj, dtype=np.float32)
    if shape is None:
        shape = tuple(int(n * voxel / mm) for n in head.shape)
        start = np.zeros(3)
    else:
        middle = [
            (s.start + s.stop - 1) / 2 for s in ndimage.find_objects((inside > 0.5).astype(int))[0]
        ]
        start = np.array(middle) - (np.array(shape) - 1) / 2 * mm / voxel
    image = _sample(np.asarray(head.dataobj, dtype=np.float32), mm / voxel, start, shape)
    inside = _sample(inside, mm / voxel, start, shape)
    affine = np.array(head.affine, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ start
    affine[:3, :3] *= mm / voxel
    far = ndimage.distance_transform_edt(inside < 0.5, sampling=mm).astype(np.float32)
    image /= np.median(image[inside > 0.5])
    tensors = [torch.from_numpy(np.ascontiguousarray(v)) for v in (image, inside, far)]
    return Head(tensors[0], tensors[1], tensors[2], mm, torch.from_numpy(affine))


def _read(path: Path) -> nib.Nifti1Image:
    """Read a packaged volume."""
    return nib.load(path)


def _sample(values: np.ndarray, step: float, start: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Sample `values` at `start + step * index`, smoothed when that is coarser."""
    if step > 1:
        values = ndimage.gaussian_filter(values, 0.42 * (step - 0.4))
    moved = ndimage.affine_transform(values, np.full(3, step), start, tuple(shape), order=1)
    return np.asarray(moved, dtype=np.float32)
