"""The series that came in: its slices in the order of the scan's third axis."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from medsal.result import SaliencyMap
from medsal.scan import Scan, read
from medsal.scan.dicom import is_dicom
from medsal.space import Grid

MAKER = "medsal"
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
# Type 2 in the standard: they may be empty.
UNKNOWN = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
    "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Series:
    """A series of single slices that lie on one grid.

    Attributes:
        name: for the names of files.
        slices: pydicom's datasets, ascending along the normal of their planes.
        grid: their grid, RAS mm.
    """

    name: str
    slices: tuple[Any, ...]
    grid: Grid

    @property
    def gap(self) -> float:
        """Between neighbouring slices [mm]."""
        return float(np.linalg.norm(self.grid.affine[:3, 2]))

    def nearest(self, position: Sequence[float]) -> Float[np.ndarray, "3"]:
        """The corner of the grid's slice that is nearest to a position, both in LPS mm."""
        index = np.linalg.inv(self.grid.affine) @ [-position[0], -position[1], position[2], 1]
        corner = self.grid.affine @ [0, 0, round(float(index[2])), 1]
        return np.asarray(corner[:3] * (-1, -1, 1))

    @property
    def number(self) -> int:
        """Of the first series that is made of this one."""
        return 1000 * int(self.slices[0].get("SeriesNumber") or 0) % 100_000 + 100

    def check(self, result: SaliencyMap) -> None:
        """Refuse a map that lies elsewhere.

        Raises:
            ValueError: for several samples, or a map on another grid.
        """
        shape = tuple(result.data.shape[2:])
        near = result.affine is not None and len(result) == 1 and len(shape) == 3
        if not near or not self.grid.near(Grid(shape, np.asarray(result.affine, np.float64))):
            raise ValueError(
                f"expected one sample's map on the grid of the series {self.grid.shape}, got "
                f"{len(result)} of {shape}; bring it home first: result.home()"
            )


def read_datasets(series: Scan | str | Path) -> Series:
    """A folder with one DICOM series, checked as a scan is; a scan of one has been.

    Raises:
        ValueError: for what is no series of single slices on a regular grid.
    """
    import pydicom

    scan = series if isinstance(series, Scan) else read(series)
    path = scan.path
    if scan.kind != "dicom":
        raise ValueError(f"{path.name} is no DICOM series: DICOM objects refer to one")
    files = [path] if path.is_file() else [each for each in path.iterdir() if each.is_file()]
    found = [pydicom.dcmread(each) for each in files if is_dicom(each)]
    slices = [each for each in found if "PixelData" in each]
    slices.sort(key=_height)
    grid = Grid(scan.shape, scan.affine)
    for each in slices:
        _complete(each, scan.name, float(np.linalg.norm(grid.affine[:3, 2])))
    return Series(scan.name, tuple(slices), grid)


def _complete(dataset: Any, name: str, gap: float) -> None:
    """Fill in what may be unknown in DICOM but must be there; anonymised files lack it.

    Raises:
        ValueError: when something is lacking that objects refer to.
    """
    lacking = [key for key in NEEDED if not dataset.get(key)]
    if lacking:
        raise ValueError(
            f"{name} lacks {', '.join(lacking)}, by which DICOM objects refer to a series; leave "
            f"out DICOM, or give the series as the scanner wrote it"
        )
    for key in UNKNOWN:
        if key not in dataset:
            setattr(dataset, key, "")
    if not dataset.get("SliceThickness"):
        dataset.SliceThickness = f"{gap:.10g}"


def _height(dataset: Any) -> float:
    axes = [float(each) for each in dataset.ImageOrientationPatient]
    return float(np.cross(axes[:3], axes[3:]) @ [float(x) for x in dataset.ImagePositionPatient])
