"""`read`: one door for every kind of file that a scan comes in."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from medsal.scan import dicom, formats
from medsal.scan.contents import Contents

KINDS = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".nhdr": "nrrd",
    ".mha": "mha",
    ".mhd": "mha",
    ".dcm": "dicom",
    ".ima": "dicom",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".bmp": "picture",
}
"""Suffix -> kind of file; a folder is a DICOM series."""


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan as its file holds it.

    Attributes:
        name: the file's stem in safe characters, for the names of what is written.
        data: `(c, *s)` float32, finite, in the order of the file's own axes, as MONAI's readers
            give it.
        affine: `(4, 4)` float64, voxel -> RAS mm; for a picture the identity, as in MONAI.
        path: the file, or the folder of a DICOM series.
        kind: "nifti", "nrrd", "mha", "dicom" or "picture".
        notes: what is odd about the file, for the user.
    """

    name: str
    data: Float32[np.ndarray, "c *s"]
    affine: Float[np.ndarray, "4 4"]
    path: Path
    kind: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The spatial shape, without the channels."""
        return tuple(self.data.shape[1:])


def read(path: str | Path, *, channels: int | None = None, finite: bool = True) -> Scan:
    """Reads a scan: NIfTI, NRRD, MHA, a DICOM folder, or a picture.

    The fourth axis of a file counts as channels, as in MONAI.

    Args:
        path: a file, or a folder with one DICOM series.
        channels: how many the network takes; another count is an error that says what to do.
        finite: NaN and Inf are an error; with False they become 0 and are noted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not an image, is broken, or holds what cannot be placed. One line.
    """
    path = Path(path)
    kind = _kind(path)
    contents = formats.READERS[kind](path) if kind != "dicom" else dicom.read_series(path)
    data, affine, notes = _checked(path, contents, finite)
    if channels is not None and data.shape[0] != channels:
        raise ValueError(_channel_advice(path, kind, data.shape[0], channels))
    return Scan(_name(path), data, affine, path, kind, notes)


def _kind(path: Path) -> str:
    if path.is_dir():
        return "dicom"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} is empty (0 bytes): copy it again from its source")
    kind = KINDS.get(_suffix(path))
    if kind is None and dicom.is_dicom(path):
        return "dicom"
    if kind is None:
        raise ValueError(
            f"{path.name} is not a scan that medsal reads: expected one of {' '.join(KINDS)}"
            " or a DICOM folder"
        )
    return kind


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _name(path: Path) -> str:
    path = path.resolve()
    known = path.is_file() and _suffix(path) in KINDS
    stem = path.name[: -len(_suffix(path))] if known else path.name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.") or "scan"


def _checked(path: Path, contents: Contents, finite: bool) -> Contents:
    data, affine, notes = contents
    if data.size == 0:
        raise ValueError(f"{path.name} holds no voxels: its shape is {data.shape[1:]}")
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError(
            f"{path.name} does not say where its voxels lie: its affine {affine[:3].tolist()}"
            " cannot be inverted; repair the header"
        )
    bad = data.size - int(np.isfinite(data).sum())
    if bad and finite:
        raise ValueError(
            f"{path.name} holds {bad} voxels of {data.size} that are NaN or infinite: replace them"
            " first, for instance by numpy.nan_to_num"
        )
    if bad:
        data = np.nan_to_num(data, nan=0.0, posinf=0.0, neginf=0.0)
        notes = (*notes, f"{bad} voxels of the file are NaN or infinite; they count as 0")
    return Contents(data, affine, notes)


def _channel_advice(path: Path, kind: str, found: int, wanted: int) -> str:
    said = f"{path.name} has {found} channel{'s' * (found > 1)} and the network takes {wanted}"
    if found > 1 and kind == "nifti":
        cure = (
            "if its fourth axis is time, write one volume:"
            " nibabel.save(nibabel.load(scan).slicer[..., 0], 'one.nii.gz')"
        )
    elif kind == "picture":
        cure = "convert the picture (PIL: Image.convert('L') is grey, 'RGB' is colour)"
    else:
        cure = "give a file that holds every channel in the order of the network's training"
    return f"{said}; {cure}"
