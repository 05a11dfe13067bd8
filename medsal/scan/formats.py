"""Readers of single files: NIfTI by nibabel, NRRD and MHA by SimpleITK, pictures by PIL."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from medsal.scan.contents import Contents, itk_affine, one_line

BROKEN = "{} cannot be read to its end ({}): the file is truncated or damaged, copy it again"


def read_nifti(path: Path) -> Contents:
    """A NIfTI-1 or NIfTI-2 file; the affine is nibabel's, which MONAI's NibabelReader sees too."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        if path.suffix.lower() == ".gz":
            _check_gzip(path)
        image: Any = nibabel.load(path)
    except ImageFileError:
        raise ValueError(f"{path.name} is not a NIfTI image, or its header is cut off") from None
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(BROKEN.format(path.name, one_line(error))) from None
    dtype = image.get_data_dtype()
    if dtype.kind not in "iufb":
        raise ValueError(
            f"{path.name} holds {'complex' if dtype.kind == 'c' else dtype} voxels: expected real"
            " numbers, one per voxel; write its magnitude or one component first"
        )
    if not 2 <= len(image.shape) <= 4 and image.shape[4:] != (1,) * len(image.shape[4:]):
        raise ValueError(f"{path.name} has {len(image.shape)} axes: expected 2, 3, or 4 (channels)")
    try:
        # nibabel reads lazily: a truncated file fails here and not above.
        data = image.get_fdata(dtype=np.float32, caching="unchanged")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(BROKEN.format(path.name, one_line(error))) from None
    notes = _nifti_notes(image.header, image.shape)
    return Contents(_channels_first(data), np.asarray(image.affine, np.float64), notes)


def _check_gzip(path: Path) -> None:
    """Reads to the end: the checksum stands there, and nibabel does not ask for it."""
    with gzip.open(path) as file:
        while file.read(1 << 22):
            pass


def _channels_first(data: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "c *s"]:
    data = data.reshape(data.shape[:4]) if data.ndim > 4 else data
    return data[None] if data.ndim <= 3 else np.moveaxis(data, -1, 0)


def _nifti_notes(header: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    notes = []
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform == 0 and qform == 0:
        notes.append(
            "the file's sform and qform codes are both 0: it does not say where it lies; nibabel"
            " and MONAI centre it and mirror x, other programs place it elsewhere"
        )
    elif sform > 0 and qform > 0:
        gap = _corner_gap(header.get_sform(), header.get_qform(), shape[:3])
        if gap > 0.1:
            notes.append(
                f"the file's sform and qform disagree by up to {gap:.1f} mm; the sform counts here,"
                " as in nibabel and MONAI; ITK and Slicer may take the qform"
            )
    unit = header.get_xyzt_units()[0]
    if unit not in ("mm", "unknown"):
        notes.append(
            f"the file's unit is {unit}; its numbers are taken as mm, as in nibabel and MONAI"
        )
    if len(shape) >= 4 and shape[3] > 1:
        notes.append(
            f"the {shape[3]} volumes on the file's fourth axis count as channels, as in MONAI"
        )
    return tuple(notes)


def _corner_gap(one: Any, other: Any, shape: tuple[int, ...]) -> float:
    size = (*shape, 1, 1)[:3]
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in size], [1])).reshape(4, -1)
    return float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())


def read_itk(path: Path) -> Contents:
    """An NRRD, MHA or MHD file; a sheared grid is kept as it is."""
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        reason = one_line(error)
        text = BROKEN.format(path.name, reason) if "read" in reason.lower() else None
        raise ValueError(text or f"{path.name} is not an image that ITK reads: {reason}") from None
    if image.GetDimension() > 3:
        raise ValueError(
            f"{path.name} has {image.GetDimension()} axes of shape {image.GetSize()}: expected 2 or"
            " 3; write one volume, or the volumes as components of a vector image"
        )
    if "complex" in image.GetPixelIDTypeAsString():
        raise ValueError(f"{path.name} holds complex voxels: write their magnitude first")
    array = SimpleITK.GetArrayFromImage(image).astype(np.float32)
    if image.GetNumberOfComponentsPerPixel() == 1:
        array = array[..., None]
    return Contents(array.T, itk_affine(image), ())


def read_picture(path: Path) -> Contents:
    """A PNG, JPEG or BMP: `(c, width, height)`, the identity as affine, as MONAI's PILReader."""
    from PIL import Image, UnidentifiedImageError

    notes: list[str] = []
    try:
        with Image.open(path) as picture:
            if picture.getexif().get(0x0112, 1) != 1:
                notes.append("the picture's EXIF orientation is not applied, as in MONAI")
            array = _plain_colours(picture, notes)
    except UnidentifiedImageError:
        raise ValueError(f"{path.name} is not a picture that PIL reads") from None
    except (OSError, SyntaxError, ValueError, zlib.error) as error:
        raise ValueError(BROKEN.format(path.name, one_line(error))) from None
    array = array[..., None] if array.ndim == 2 else array
    return Contents(np.ascontiguousarray(array.T, dtype=np.float32), np.eye(4), tuple(notes))


def _plain_colours(picture: Any, notes: list[str]) -> Any:
    mode = picture.mode
    if mode in ("RGBA", "LA", "PA") or (mode == "P" and "transparency" in picture.info):
        notes.append("the picture's transparency is left out")
    if mode in ("RGBA", "P", "PA", "CMYK", "YCbCr"):
        return np.asarray(picture.convert("RGB"))
    return np.asarray(picture.convert("L") if mode in ("1", "LA") else picture)


READERS: dict[str, Callable[[Path], Contents]] = {
    "nifti": read_nifti,
    "nrrd": read_itk,
    "mha": read_itk,
    "picture": read_picture,
}
"""Kind of file -> its reader."""
