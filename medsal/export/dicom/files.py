"""From maps of a DICOM series to DICOM files."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from medsal.export.dicom.objects import (
    RESEARCH,
    Described,
    parametric_map,
    pictures,
    segmentation,
)
from medsal.export.dicom.series import Series, read_datasets
from medsal.export.hot import SHARE
from medsal.export.slicer import Shown, hot_segments, shown_maps
from medsal.export.staging import Stage, staged
from medsal.result import SaliencyMap
from medsal.scan import Scan
from medsal.view.colour import grey_window, shade
from medsal.view.scale import Scale, is_signed

NEEDED = ("highdicom", "pydicom")
LINE = 13


def save_dicom(
    results: Sequence[SaliencyMap],
    series: Scan | str | Path,
    folder: str | Path,
    *,
    classes: Sequence[str] = (),
    share: float = SHARE,
) -> list[Path]:
    """Write maps of a DICOM series as DICOM that refers to it, all files or none.

    For each map ``<series>_label-<target>_desc-<method>``: ``_seg.dcm``, the hot region as a binary
    segmentation (``_segAgainst.dcm``, of what speaks against the target); ``_map.dcm``, the raw
    numbers as a parametric map in float32; ``_pictures/``, the map over each slice as secondary
    captures. The patient is the one of the series, as DICOM asks; files are named after the
    series' folder.

    Args:
        results: maps on the grid of the series (`SaliencyMap.home`).
        series: the series that they were made from, read as a scan or its folder.
        folder: where to; made if it is missing.
        classes: the names of the model's classes.
        share: of a map's maximum, from which on a voxel is in the hot region.

    Returns:
        The files written. An empty map has no segmentation.

    Raises:
        ImportError: without highdicom.
        ValueError: for what is no DICOM series, a map on another grid, or two maps of one name.
    """
    check_installed()
    source = read_datasets(series)
    for result in results:
        source.check(result)
    definitions = [repr(result.method) for result in results for _ in result.targets]
    maps = shown_maps(results, source.name, classes, share)
    stems = [each.stem.removesuffix("_saliency") for each in maps]
    if len(set(stems)) < len(stems):
        raise ValueError("two maps would have one name; write them into different folders")
    target = Path(folder)
    with staged(target) as stage:
        writer = _Writer(source, stage, share, _background(source))
        for i, (each, stem, method) in enumerate(zip(maps, stems, definitions, strict=True)):
            writer.write(each, stem, method, i)
        made = sorted(path for path in stage.folder.rglob("*") if path.is_file())
        return [target / path.relative_to(stage.folder) for path in made]


def check_installed() -> None:
    """Ask for what writes DICOM.

    Raises:
        ImportError: when it is not there.
    """
    if any(find_spec(name) is None for name in NEEDED):
        raise ImportError("DICOM is written by highdicom: pip install 'medsal[dicom]'")


@dataclass(frozen=True, eq=False)
class _Writer:
    """Writes maps of one series; ``background`` is its slices in grey, 0 to 1."""

    series: Series
    stage: Stage
    share: float
    background: Any

    def write(self, shown: Shown, stem: str, method: str, number: int) -> None:
        """The objects of one map."""
        described = Described(shown.name, method, shown.data, self.series.number + 4 * number)
        for each in hot_segments(shown, self.share, number):
            against = each.sign < 0
            found = segmentation(self.series, described, each, 3 if against else 0)
            found.save_as(self.stage.path(f"{stem}_seg{'Against' * against}.dcm"))
        parametric_map(self.series, described).save_as(self.stage.path(f"{stem}_map.dcm"))
        folder = self.stage.path(f"{stem}_pictures")
        folder.mkdir()
        colours = self._coloured(shown)
        for i, each in enumerate(pictures(self.series, described, colours), 1):
            each.save_as(folder / f"{i:04d}.dcm")

    def _coloured(self, shown: Shown) -> UInt8[np.ndarray, "z y x 3"]:
        """Each slice in grey under the map's colours, as on our figures."""
        low, high = float(shown.data.min()), float(shown.data.max())
        scale = Scale(shown.top, is_signed(low, high))
        look = shade(low, high, scale, threshold=None, opacity=0.85, cmap=None)
        words = f"{shown.name}\n{look.bottom:.3g} to {look.top:.3g}\n{RESEARCH}"
        slices = zip(self.background, shown.data.transpose(2, 1, 0), strict=True)
        found = []
        for grey, values in slices:
            alpha = look.alpha(np.maximum(values, look.bottom))[..., None]
            colour = look.colours()(look.norm()(values))[..., :3]
            mixed = (1 - alpha) * grey[..., None] + alpha * colour
            found.append(_captioned(np.rint(255 * np.clip(mixed, 0, 1)).astype(np.uint8), words))
        return np.stack(found)


def _background(series: Series) -> Any:
    """The series' slices ``(z, y, x)``, from black to white."""
    frames = [
        each.pixel_array * float(each.get("RescaleSlope", 1) or 1)
        + float(each.get("RescaleIntercept", 0) or 0)
        for each in series.slices
    ]
    voxels = np.stack(frames).astype(np.float32)
    return grey_window(voxels, None, (0.5, 99.5))(voxels)


def _captioned(picture: UInt8[np.ndarray, "y x 3"], words: str) -> UInt8[np.ndarray, "yy x 3"]:
    """The picture with a strip below it that says what it is; nothing of it is covered."""
    from PIL import Image, ImageDraw

    lines = words.split("\n")
    strip = Image.new("RGB", (picture.shape[1], LINE * len(lines)))
    for i, line in enumerate(lines):
        ImageDraw.Draw(strip).text((2, LINE * i), line, fill=(255, 255, 255))
    return np.concatenate([picture, np.asarray(strip)])
