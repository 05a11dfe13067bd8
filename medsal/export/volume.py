"""The one writer of volumes, for scans and maps alike: every reader places them the same."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from medsal.space import orthonormality

# ITK refuses or silently changes grids that are less orthonormal than this (400 random affines).
ORTHONORMAL = 2e-5
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")


def write_volume(
    path: str | Path,
    data: Float[np.ndarray, "*s"],
    affine: Float[np.ndarray, "4 4"],
    *,
    limits: tuple[float, float] | None = None,
    description: str = "medsal",
) -> Path:
    """Write a volume as 3D float32; 1 and 2 axes become slices of one voxel.

    NIfTI-1 with sform and qform equal to the affine, both codes 1, mm, finite voxels. nibabel and
    ITK disagree where any of these is otherwise. They also disagree on sheared grids, which NRRD
    keeps: such a volume is written as ``.nrrd`` instead.

    Args:
        path: ends in ``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``. Its folder must exist.
        data: ``(*s)``, 1 to 3 axes.
        affine: voxel to RAS mm.
        limits: the range that viewers should show.
        description: at most 79 characters, kept in NIfTI's header.

    Returns:
        The path written to.

    Raises:
        ValueError: for another suffix, more axes, or an affine that can't be inverted.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not 1 <= data.ndim <= 3:
        raise ValueError(f"expected a volume of 1 to 3 axes, got the shape {data.shape}")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError(f"expected an affine that can be inverted, got {affine.tolist()}")
    voxels = np.nan_to_num(data.reshape(*data.shape, *(1,) * (3 - data.ndim)).astype(np.float32))
    if suffix in (".nii", ".nii.gz") and orthonormality(affine) > ORTHONORMAL:
        path = path.with_name(path.name.removesuffix(suffix) + ".nrrd")
    if suffix_of(path) in (".nrrd", ".mha"):
        _write_itk(path, voxels, affine)
    else:
        _write_nifti(path, voxels, affine, limits, description)
    return path


def suffix_of(path: Path) -> str:
    """The suffix, ``.nii.gz`` taken as one.

    Raises:
        ValueError: for a suffix that is not a volume's.
    """
    for suffix in VOLUMES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise ValueError(f"expected a file name that ends in one of {', '.join(VOLUMES)}, got {path}")


def _write_nifti(
    path: Path,
    voxels: Float[np.ndarray, "x y z"],
    affine: Float[np.ndarray, "4 4"],
    limits: tuple[float, float] | None,
    description: str,
) -> None:
    import nibabel

    image = nibabel.Nifti1Image(voxels, None)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    image.header["cal_min"], image.header["cal_max"] = limits or (voxels.min(), voxels.max())
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    nibabel.save(image, path)


def _write_itk(
    path: Path, voxels: Float[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"]
) -> None:
    import SimpleITK

    SimpleITK.WriteImage(itk_image(voxels, affine), str(path), useCompression=True)


def itk_image(voxels: Shaped[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"]) -> Any:
    """A SimpleITK image of these voxels, placed by the affine, shear included."""
    import SimpleITK

    lps = np.diag([-1.0, -1.0, 1.0]) @ affine[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    image = SimpleITK.GetImageFromArray(voxels.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:, :3] / spacing).flatten().tolist())
    image.SetOrigin(lps[:, 3].tolist())
    return image
