"""A scene for 3D Slicer: the scan, the maps over it at their peak, the hot regions outlined."""

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from medsal.export.hot import SHARE, hot_regions, signs
from medsal.export.slicer import colours, mrml
from medsal.export.slicer.segmentation import SUFFIX, Segment, write_segmentation
from medsal.export.volume import write_volume
from medsal.space import Grid
from medsal.view.colour import grey_window

SCENES = (".mrb", ".mrml")
OPACITY = 0.5
# Slicer's slice views draw a voxel or do not: below this share of the scale, the scan is bare.
DRAWN = 0.25
GREYS = (0.5, 99.5)


@dataclass(frozen=True, eq=False)
class Shown:
    """A map of a scene.

    Attributes:
        name: as Slicer lists it.
        stem: of its files.
        data: ``(*s)``, raw, on the scan's grid.
        top: the magnitude at the last colour: maps with one share a scale.
        sidecar: how it was made, as JSON; empty = not written.
    """

    name: str
    stem: str
    data: Float32[np.ndarray, "*s"]
    top: float
    sidecar: str = ""

    @property
    def peak(self) -> tuple[int, ...]:
        """The voxel with the largest magnitude."""
        return tuple(int(i) for i in np.unravel_index(np.abs(self.data).argmax(), self.data.shape))


def write_scene(
    path: Path,
    scan: Float32[np.ndarray, "c *s"],
    affine: Float[np.ndarray, "4 4"],
    maps: Sequence[Shown],
    *,
    share: float = SHARE,
    ready: Path | None = None,
) -> Path:
    """Write a scene that 3D Slicer opens by one action.

    The first map is in the foreground; the others are there to be chosen. A signed map is two
    volumes, one of what speaks for the target and one of what speaks against it: a threshold of
    Slicer's can't hide the middle. Each map's hot region is a segmentation.

    Args:
        path: ends in ``.mrb``, one file, or ``.mrml``, with its volumes in a folder beside it.
        scan: ``(c, *s)``, 2 or 3 axes; its first channel is the background.
        affine: voxel to RAS mm, of the scan and the maps.
        maps: at least one.
        share: of a map's maximum, from which on a voxel is in the hot region.
        ready: a folder where volumes and provenance may lie already, by their stems.

    Returns:
        The path.

    Raises:
        ValueError: for no map, a map on another grid, or another suffix.
    """
    if not maps or any(each.data.shape != scan.shape[1:] for each in maps):
        shapes = [each.data.shape for each in maps]
        raise ValueError(f"expected maps of the scan's grid {scan.shape[1:]}, got {shapes}")
    if path.suffix not in SCENES:
        raise ValueError(f"expected a file name that ends in {' or '.join(SCENES)}, got {path}")
    packed = path.suffix == ".mrb"
    root = path.with_suffix(".scene") if packed else path.parent
    folder = root / ("Data" if packed else f"{path.stem}_data")
    folder.mkdir(parents=True)
    files = _Files(folder, affine, ready)
    nodes = [
        *_tables(files),
        *_volumes(files, path.stem, scan, maps),
        *_segmentations(files, maps, share),
        *_views(scan, affine, maps[0]),
    ]
    (root / f"{path.stem}.mrml").write_text(mrml.document(nodes), encoding="utf-8")
    if packed:
        _pack(path, root)
        shutil.rmtree(root)
    return path


@dataclass(frozen=True, eq=False)
class _Files:
    """The files of a scene, all on one grid."""

    folder: Path
    affine: Float[np.ndarray, "4 4"]
    ready: Path | None

    def volume(self, stem: str, data: Float32[np.ndarray, "*s"]) -> str:
        """A volume's file, as the scene names it."""
        for suffix in (".nii.gz", ".nrrd"):
            if self._copied(f"{stem}{suffix}"):
                return self.named(f"{stem}{suffix}")
        return self.named(write_volume(self.folder / f"{stem}.nii.gz", data, self.affine).name)

    def text(self, name: str, text: str) -> None:
        """A file of text that the scene does not name."""
        if not self._copied(name):
            (self.folder / name).write_text(text, encoding="utf-8")

    def _copied(self, name: str) -> bool:
        there = self.ready is not None and (self.ready / name).exists()
        if self.ready is not None and there:
            shutil.copyfile(self.ready / name, self.folder / name)
        return there

    def named(self, name: str) -> str:
        return f"{self.folder.name}/{name}"


def _tables(files: _Files) -> mrml.Nodes:
    for i, (name, said) in enumerate(colours.TABLES.items(), 1):
        file = f"{name.replace(' ', '_')}.ctbl"
        colours.write_table(files.folder / file, name)
        yield from mrml.colour_table(i, name, files.named(file), said)


def _volumes(
    files: _Files, name: str, scan: Float32[np.ndarray, "c *s"], maps: Sequence[Shown]
) -> mrml.Nodes:
    for i, channel in enumerate(scan):
        said, stem = (f" channel {i}", f"_channel-{i}") if len(scan) > 1 else ("", "")
        window = grey_window(channel, None, GREYS)
        looks = mrml.Looks(mrml.GREY, window.low, window.high)
        file = files.volume(f"{name}{stem}", channel)
        yield from mrml.volume(i + 1, f"{name}{said}", file, looks)
    tables = {name: mrml.colours_id(i) for i, name in enumerate(colours.TABLES, 1)}
    parts = [(shown, part) for shown in maps for part in _parts(shown)]
    for i, (shown, part) in enumerate(parts, len(scan) + 1):
        looks = mrml.Looks(tables[part.table], 0.0, shown.top, DRAWN * shown.top)
        file = files.volume(part.stem, part.data)
        yield from mrml.volume(i, part.name, file, looks, _said(shown))
    for shown in maps:
        if shown.sidecar:
            files.text(f"{shown.stem}.json", shown.sidecar)


def _segmentations(files: _Files, maps: Sequence[Shown], share: float) -> mrml.Nodes:
    for i, shown in enumerate(maps):
        if segments := hot_segments(shown, share, i):
            file = f"{shown.stem}_hot{SUFFIX}"
            write_segmentation(files.folder / file, segments, files.affine)
            name = f"{shown.name}: hot"
            yield from mrml.segmentation(i + 1, name, files.named(file), of=1, visible=i == 0)


def _views(
    scan: Float32[np.ndarray, "c *s"], affine: Float[np.ndarray, "4 4"], first: Shown
) -> mrml.Nodes:
    grid = Grid(scan.shape[1:], affine)
    peak = affine @ [*(*first.peak, 0)[:3], 1]
    ends = [(-0.5, n - 0.5) for n in grid.volume]
    corners = (affine @ np.array(np.meshgrid(*ends, [1])).reshape(4, -1))[:3]
    box = np.stack([corners.min(1), corners.max(1)])
    return mrml.views(peak[:3].tolist(), box, 1, len(scan) + 1, OPACITY)


def hot_segments(shown: Shown, share: float = SHARE, number: int = 0) -> list[Segment]:
    """The hot region of a map as segments, one for each sign, their threshold in the name."""
    found = []
    for hot in hot_regions(shown.data, share):
        colour = colours.FOR[number % len(colours.FOR)] if hot.sign > 0 else colours.AGAINST
        name = f"{shown.name}{_side(hot.sign, shown)}, {hot.words}"
        tags = {"medsal.Threshold": f"{hot.threshold:.9g}", "medsal.Share": f"{hot.share:g}"}
        found.append(Segment(name, hot.mask, colour, tags, hot.sign))
    return found


@dataclass(frozen=True, eq=False)
class _Part:
    """One sign of a map, as a volume without negative values."""

    name: str
    stem: str
    table: str
    data: Float32[np.ndarray, "*s"]


def _parts(shown: Shown) -> Iterator[_Part]:
    found = signs(shown.data)
    signed = -1 in found
    for sign in found or [1]:
        suffix = ("Positive" if sign > 0 else "Negative") if signed else ""
        data = np.maximum(shown.data * np.float32(sign), 0) if signed else shown.data
        table = colours.table_of(sign, signed)
        yield _Part(f"{shown.name}{_side(sign, shown)}", f"{shown.stem}{suffix}", table, data)


def _side(sign: int, shown: Shown) -> str:
    if -1 not in signs(shown.data):
        return ""
    return " (for)" if sign > 0 else " (against)"


def _said(shown: Shown) -> str:
    return (
        f"Raw values, shown from 0 to {shown.top:.4g}; below {DRAWN * shown.top:.4g} not drawn. "
        f"Research only, not a diagnosis."
    )


def _pack(path: Path, root: Path) -> None:
    """A bundle of Slicer's is an archive of one folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(each for each in root.rglob("*") if each.is_file()):
            # Volumes and segmentations are compressed themselves.
            small = file.suffix in (".mrml", ".json", ".ctbl")
            name = f"{path.stem}/{file.relative_to(root).as_posix()}"
            archive.write(file, name, zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED)
