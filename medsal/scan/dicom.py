"""A DICOM series: slices ordered by their own positions, and refused where these do not fit."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from medsal.scan.contents import LPS_TO_RAS, Contents, one_line

SERIES, ORIENTATION, POSITION, PIXEL = "0020|000e", "0020|0037", "0020|0032", "0028|0030"
DESCRIPTION, THICKNESS = "0008|103e", "0018|0050"


@dataclass(frozen=True)
class _Slice:
    """One file's place: corner and axes in LPS mm, without its pixels."""

    path: Path
    series: str
    title: str
    size: tuple[int, int]
    axes: tuple[float, ...]
    pixel: tuple[float, float]
    position: tuple[float, ...]
    thickness: float

    @property
    def normal(self) -> Float[np.ndarray, "3"]:
        return np.cross(self.axes[:3], self.axes[3:])

    @property
    def height(self) -> float:
        """How far along its normal the slice lies, in mm."""
        return float(self.normal @ np.array(self.position))


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM files do."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_series(path: Path) -> Contents:
    """One series from a folder (or one file): equal steps, one orientation, no gap, no tilt.

    Positions may be rounded: steps may differ by 2 % or 0.1 mm (a fifth of the step at most), and
    the stack may lean by a quarter of a pixel over its whole length. Rescale slope and intercept
    are applied to each slice.

    Raises:
        ValueError: the folder holds no DICOM, several series, or slices that form no regular grid.
    """
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    slices = [s for s in map(_header, files) if s is not None]
    name = path.name or path.resolve().name
    if not slices:
        what = f"{len(files)} files, none of them a DICOM image" if files else "no files"
        raise ValueError(f"{name}: expected a folder with one DICOM series, found {what}")
    _check_one_series(name, slices)
    slices.sort(key=lambda s: s.height)
    affine = _affine(name, slices)
    ignored = len(files) - len(slices)
    notes = (f"{ignored} files in the folder are not DICOM images; ignored",) if ignored else ()
    return Contents(np.stack([_pixels(s) for s in slices], -1)[None], affine, notes)


def _header(path: Path) -> _Slice | None:
    import SimpleITK

    if path.name == "DICOMDIR" or not is_dicom(path):
        return None
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        if b"\xe0\x7f\x10\x00" in path.read_bytes():
            raise ValueError(f"{path.name} is a damaged DICOM file: copy it again") from None
        return None
    size = reader.GetSize()
    if len(size) > 2 and size[2] > 1:
        raise ValueError(
            f"{path.name} is a multi-frame DICOM with {size[2]} frames: convert it to NIfTI first,"
            " for instance by dcm2niix"
        )
    return _place(path, reader, (size[0], size[1]))


def _place(path: Path, reader: Any, size: tuple[int, int]) -> _Slice:
    def tag(key: str) -> str:
        return str(reader.GetMetaData(key)).strip() if reader.HasMetaDataKey(key) else ""

    def numbers(key: str) -> tuple[float, ...]:
        return tuple(float(x) for x in tag(key).split("\\") if x.strip())

    axes, position, pixel = numbers(ORIENTATION), numbers(POSITION), numbers(PIXEL)
    if len(axes) != 6 or len(position) != 3 or len(pixel) != 2:
        raise ValueError(
            f"{path.name} does not say where its slice lies (ImageOrientationPatient,"
            " ImagePositionPatient, PixelSpacing); convert it to PNG for a 2D network"
        )
    thickness = next(iter(numbers(THICKNESS)), 0.0) or 1.0
    # DICOM names the distance between rows first: that is the step along the second axis.
    steps = (pixel[1], pixel[0])
    return _Slice(path, tag(SERIES), tag(DESCRIPTION), size, axes, steps, position, thickness)


def _check_one_series(name: str, slices: list[_Slice]) -> None:
    series = Counter((s.series, s.title) for s in slices)
    if len(series) > 1:
        listed = "; ".join(f"{n} slices of '{title or uid}'" for (uid, title), n in series.items())
        raise ValueError(
            f"{name} holds {len(series)} DICOM series ({listed}): put the one to explain in a"
            " folder of its own"
        )
    first = slices[0]
    odd = [s for s in slices if not np.allclose(s.axes, first.axes, atol=1e-3)]
    if odd:
        raise ValueError(
            f"{name} holds slices of several orientations ({len(odd)} of {len(slices)} differ from"
            f" {first.path.name}, e.g. {odd[0].path.name}): a scout? Leave one orientation"
        )
    kinds = Counter((s.size, s.pixel) for s in slices)
    if len(kinds) > 1:
        listed = "; ".join(
            f"{n} of {w}x{h}, {a:g}x{b:g} mm" for ((w, h), (a, b)), n in kinds.items()
        )
        raise ValueError(f"{name} holds slices of several sizes ({listed}): leave one size")


def _affine(name: str, slices: list[_Slice]) -> Float[np.ndarray, "4 4"]:
    """Voxel -> RAS mm: the regular grid nearest to the positions of the ordered slices."""
    first, normal, count = slices[0], slices[0].normal, len(slices)
    positions = np.array([s.position for s in slices])
    _check_steps(name, slices)
    step = (slices[-1].height - first.height) / (count - 1) if count > 1 else first.thickness
    _check_straight(name, slices, positions, step)
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.axes[:3]) * first.pixel[0]
    affine[:3, 1] = np.array(first.axes[3:]) * first.pixel[1]
    affine[:3, 2] = normal * step
    affine[:3, 3] = positions.mean(0) - normal * step * (count - 1) / 2
    return LPS_TO_RAS @ affine


def _check_steps(name: str, slices: list[_Slice]) -> None:
    if len(slices) < 2:
        return
    heights = np.array([s.height for s in slices])
    steps = np.diff(heights)
    typical = float(np.median(steps))
    same = [i for i, step in enumerate(steps) if step < max(0.01, 0.1 * typical)]
    if same:
        pairs = [(f"{heights[i]:.2f} mm", slices[i], slices[i + 1]) for i in same]
        listed = "; ".join(f"at {z} {a.path.name} and {b.path.name}" for z, a, b in pairs[:4])
        raise ValueError(
            f"{name} holds {len(same)} duplicate slices ({listed}{_more(pairs)}): several"
            " acquisitions, echoes or times? Leave one"
        )
    tolerance = max(0.02 * typical, min(0.1, 0.2 * typical))
    gaps = [i for i, step in enumerate(steps) if abs(step - typical) > tolerance]
    if not gaps:
        return
    listed = "; ".join(_gap(slices, heights, i, typical) for i in gaps[:4])
    if all(_lacking(steps[i], typical) > 0 for i in gaps):
        total = sum(_lacking(steps[i], typical) for i in gaps)
        raise ValueError(
            f"{name} lacks {total} slices ({listed}{_more(gaps)}): complete the series"
        )
    raise ValueError(
        f"{name}: slices are not evenly spaced, {typical:.2f} mm as a rule but"
        f" {listed}{_more(gaps)}; resample the series to equal steps first"
    )


def _lacking(step: float, typical: float) -> int:
    """How many slices fit in a step, 0 where it is no whole multiple of the typical one."""
    times = round(step / typical)
    return times - 1 if abs(step - times * typical) < 0.1 * typical * times else 0


def _gap(slices: list[_Slice], heights: Any, i: int, typical: float) -> str:
    lacking = _lacking(heights[i + 1] - heights[i], typical)
    what = f"{lacking} missing" if lacking else f"{heights[i + 1] - heights[i]:.2f} mm"
    ends = f"{slices[i].path.name} at {heights[i]:.2f} mm and {slices[i + 1].path.name} at"
    return f"{what} between {ends} {heights[i + 1]:.2f} mm"


def _more(listed: list[Any]) -> str:
    return f"; and {len(listed) - 4} more" if len(listed) > 4 else ""


def _check_straight(
    name: str, slices: list[_Slice], positions: Float[np.ndarray, "n 3"], step: float
) -> None:
    normal, count = slices[0].normal, len(slices)
    aside = positions - positions.mean(0)
    aside -= np.outer(aside @ normal, normal)
    tolerance = max(0.1, 0.25 * min(slices[0].pixel))
    if np.linalg.norm(aside, axis=1).max() <= tolerance:
        return
    index = np.arange(count) - (count - 1) / 2
    lean = index @ aside / (index @ index)
    rest = np.linalg.norm(aside - np.outer(index, lean), axis=1)
    if rest.max() <= tolerance:
        angle = math.degrees(math.atan2(float(np.linalg.norm(lean)), step))
        raise ValueError(
            f"{name} is tilted by {angle:.1f} degrees (the gantry of a CT): its slices are stacked"
            " askew; straighten it first, for instance by dcm2niix"
        )
    worst = slices[int(rest.argmax())].path.name
    raise ValueError(
        f"{name}: slices are not stacked in a straight line, {worst} lies {rest.max():.1f} mm aside"
    )


def _pixels(piece: _Slice) -> Float32[np.ndarray, "x y"]:
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(piece.path), imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise ValueError(f"{piece.path.name} cannot be read: {one_line(error)}") from None
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise ValueError(f"{piece.path.name} is a colour picture: expected one number per voxel")
    array: Any = SimpleITK.GetArrayFromImage(image)
    return np.asarray(array.reshape(piece.size[::-1]).T, dtype=np.float32)
