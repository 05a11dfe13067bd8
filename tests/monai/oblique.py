"""Scans on oblique, left-handed, anisotropic grids."""

from pathlib import Path

import nibabel
import numpy as np

SHAPE = (30, 34, 18)


def affine(turn: float = 0.2) -> np.ndarray:
    """Oblique, left-handed, anisotropic."""
    turned = nibabel.eulerangles.euler2mat(0.1, turn, 0.3)
    return nibabel.affines.from_matvec(turned @ np.diag([-1.5, 1.2, 2.5]), [30.0, -40.0, -20.0])


def write_scan(path: Path, turn: float = 0.2, shape: tuple[int, ...] = SHAPE) -> Path:
    """A scan with structure that no flip leaves alone."""
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(float)
    centre = np.reshape([10, 25, 6], (3, 1, 1, 1))
    voxels = 400 * np.exp(-((grid - centre) ** 2).sum(0) / 40)
    voxels += grid[0] * 2 + grid[1] + 3 * grid[2] + 100 * turn
    image = nibabel.Nifti1Image(voxels.astype(np.int16), affine(turn))
    image.set_sform(affine(turn), 1)
    image.set_qform(affine(turn), 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)
    return path
