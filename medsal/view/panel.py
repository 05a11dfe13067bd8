"""One panel: a plane of the scan with the map over it, or a signal with the map behind it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsal.view.colour import Shade, Window
from medsal.view.page import TYPE
from medsal.view.planes import Focus, Plane
from medsal.view.scene import Scene

if TYPE_CHECKING:
    import matplotlib.axes

Array = NDArray[Any]
CROSS = "#4dd0c4"
VEIL = (0.55, 0.57, 0.60)  # over voxels that the network did not see
GAP = 0.045  # half the opening of the crosshair, as a share of the panel


@dataclass(frozen=True, eq=False)
class Drawing:
    """All that a figure needs to know."""

    scene: Scene
    focus: Focus
    shade: Shade
    window: Window
    radiological: bool
    crosshair: bool
    title: str
    dark: bool

    @property
    def planes(self) -> tuple[Plane, ...]:
        return self.scene.grid.planes(self.radiological)

    def at(self, plane: Plane, index: int) -> Drawing:
        """The same at another slice along a plane's normal (turned index)."""
        moved = self.focus.index.copy()
        moved[plane.normal] = index
        return dataclasses.replace(self, focus=self.scene.grid.at(moved))


def draw_plane(axes: matplotlib.axes.Axes, drawing: Drawing, plane: Plane) -> None:
    """The scan, the map, what was not seen and the crosshair, in the grid's unit."""
    scene, focus = drawing.scene, drawing.focus
    index = focus.voxel[plane.normal]
    extent = scene.grid.extent(plane, focus)
    image, saliency = plane.cut(scene.image, index), plane.cut(scene.saliency, index)
    seen = None if scene.seen is None else plane.cut(scene.seen, index)
    style: dict[str, Any] = {
        "extent": extent,
        "origin": "upper",
        "interpolation": "nearest",
        "aspect": "equal",
    }
    if image.ndim == 2:
        limits: dict[str, Any] = {"vmin": drawing.window.low, "vmax": drawing.window.high}
        axes.imshow(image, cmap="gray", label="image", **limits, **style)
    else:
        axes.imshow(drawing.window(image), label="image", **style)
    if not drawing.shade.empty:
        _overlay(axes, drawing, saliency, seen, style)
    if seen is not None and not seen.all():
        _veil(axes, ~seen, extent, style)
    if drawing.crosshair:
        _cross(axes, focus.place[plane.across], focus.place[plane.vertical], extent)
    _bare(axes)


def draw_signal(axes: matplotlib.axes.Axes, drawing: Drawing) -> None:
    """The channels of a signal as lines in lanes, over a band in the colours of the map."""
    from matplotlib.patheffects import withStroke

    scene, shade = drawing.scene, drawing.shade
    signal = scene.image[:, 0, 0].astype(np.float64)  # (samples, channels)
    count, lanes = signal.shape
    axes.grid(False)
    style: dict[str, Any] = {
        "extent": (-0.5, count - 0.5, 0.0, 1.0),
        "interpolation": "nearest",
        "aspect": "auto",
    }
    seen = None if scene.seen is None else scene.seen[None, :, 0, 0]
    if not shade.empty:
        _overlay(axes, drawing, scene.saliency[None, :, 0, 0], seen, style)
    if seen is not None and not seen.all():
        _veil(axes, ~seen, (-0.5, count - 0.5, 0.0, 1.0), style)
    low, high = np.nanmin(signal, axis=0), np.nanmax(signal, axis=0)
    scaled = (signal - low) / np.where(high > low, high - low, 1.0)
    edge = [withStroke(linewidth=2.6, foreground="black")]
    for lane in range(lanes):
        bottom = (lanes - 1 - lane + 0.08) / lanes
        height = bottom + scaled[:, lane] * 0.84 / lanes
        axes.plot(height, color="#f1f3f4", lw=1.0, path_effects=edge, label=f"channel {lane}")
    if drawing.crosshair:
        axes.axvline(drawing.focus.place[0], color=CROSS, lw=0.8, label="crosshair")
    axes.set(xlim=(-0.5, count - 0.5), ylim=(0.0, 1.0), yticks=[], facecolor="black")


def _overlay(
    axes: matplotlib.axes.Axes,
    drawing: Drawing,
    saliency: Array,
    seen: Array | None,
    style: dict[str, Any],
) -> None:
    alpha = drawing.shade.alpha(saliency)
    if seen is not None:
        alpha = np.where(seen, alpha, 0.0)
    colours: dict[str, Any] = {"cmap": drawing.shade.colours(), "norm": drawing.shade.norm()}
    axes.imshow(saliency, alpha=alpha, label="saliency", **colours, **style)


def _veil(
    axes: matplotlib.axes.Axes,
    unseen: Array,
    extent: tuple[float, float, float, float],
    style: dict[str, Any],
) -> None:
    """Grey and hatching over what the network did not see."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    grey = np.zeros((*unseen.shape, 4))
    grey[unseen] = (*VEIL, 0.38)
    axes.imshow(grey, label="unseen", **style)
    left, right, bottom, top = extent
    rows, columns = unseen.shape
    corners = [
        [
            (left + (right - left) * x / columns, top + (bottom - top) * y / rows)
            for x, y in ((c, a), (d, a), (d, b), (c, b), (c, a))
        ]
        for a, b, c, d in rectangles(unseen)
    ]
    path = Path.make_compound_path(*(Path(each, closed=True) for each in corners))
    hatch: dict[str, Any] = {
        "facecolor": "none",
        "edgecolor": (*VEIL, 0.9),
        "hatch": "////",
        "linewidth": 0.0,
    }
    axes.add_patch(PathPatch(path, **hatch))


def rectangles(mask: Array) -> list[tuple[int, int, int, int]]:
    """A mask (rows, columns) as disjoint rectangles (row, row end, column, column end)."""
    done: list[tuple[int, int, int, int]] = []
    open_runs: dict[tuple[int, int], int] = {}
    for row in range(mask.shape[0] + 1):
        runs: set[tuple[int, int]] = set()
        if row < mask.shape[0]:
            steps = np.flatnonzero(np.diff(np.concatenate([[0], mask[row].astype(np.int8), [0]])))
            runs = {(int(a), int(b)) for a, b in zip(steps[::2], steps[1::2], strict=True)}
        ended = [run for run in open_runs if run not in runs]
        done += [(open_runs.pop(run), row, *run) for run in ended]
        for run in runs:
            open_runs.setdefault(run, row)
    return done


def _cross(
    axes: matplotlib.axes.Axes, x: float, y: float, extent: tuple[float, float, float, float]
) -> None:
    """Two lines through (x, y), open in the middle so that they don't hide what they mark."""
    left, right, bottom, top = extent
    gap = GAP * max(abs(right - left), abs(top - bottom))
    style: dict[str, Any] = {"color": CROSS, "linewidth": 0.8, "alpha": 0.9, "label": "crosshair"}
    across, vertical = sorted((left, right)), sorted((bottom, top))
    for start, end in ((across[0], x - gap), (x + gap, across[1])):
        if start < end:
            axes.plot([start, end], [y, y], scalex=False, scaley=False, **style)
    for start, end in ((vertical[0], y - gap), (y + gap, vertical[1])):
        if start < end:
            axes.plot([x, x], [start, end], scalex=False, scaley=False, **style)


def label_sides(
    axes: matplotlib.axes.Axes,
    letters: tuple[str, str, str, str],
    colour: str,
    inside: bool = False,
    zoom: float = 1.0,
) -> None:
    """The letters of the patient's sides at the edges: left, right, bottom, top."""
    from matplotlib.patheffects import withStroke

    away = -7 if inside else 7 * zoom
    spots = ((0, 0.5, -away, 0), (1, 0.5, away, 0), (0.5, 0, 0, -away), (0.5, 1, 0, away))
    for letter, (x, y, dx, dy) in zip(letters, spots, strict=True):
        text = axes.annotate(
            letter, (x, y), (dx, dy), xycoords="axes fraction", textcoords="offset points",
            ha="center", va="center", fontsize=9 * zoom, fontweight="bold", color=colour,
            annotation_clip=False, family=TYPE["family"],
        )  # fmt: skip
        if inside:
            text.set_path_effects([withStroke(linewidth=2.0, foreground="black")])


def _bare(axes: matplotlib.axes.Axes) -> None:
    axes.set(xticks=[], yticks=[], facecolor="black")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(color="#3c4043", linewidth=0.6)
