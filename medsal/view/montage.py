"""Many slices of one map along an axis."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from medsal.result import SaliencyMap
from medsal.view import words
from medsal.view.gallery import Row, Tile, fill_axes, fill_gallery
from medsal.view.look import Look, choose_plane, draw
from medsal.view.panel import Drawing
from medsal.view.plan import said
from medsal.view.planes import Plane
from medsal.view.scale import Scale

if TYPE_CHECKING:
    import matplotlib.figure

SHAPE = 1.7  # width / height of the page that columns are chosen for
FILLED = 0.05  # a slice with a smaller share of voxels above the background is empty


def montage(
    result: SaliencyMap,
    *,
    plane: str | int | None = None,
    slices: int | Sequence[int] = 20,
    columns: int | None = None,
    target: int = 0,
    scale: Scale | float | int | str | None = None,
    title: str | None = None,
    figure: matplotlib.figure.FigureBase | None = None,
    axes: Any = None,
    **look: Unpack[Look],
) -> matplotlib.figure.Figure:
    """Slices of a map over its scan, side by side: the scan's own planes of voxels.

    A 2D image is one slice: it is shown without the map and with it.

    Args:
        result: one sample.
        plane: "axial", "coronal" or "sagittal", or the array's axis to go along; None = axial, or
            the planes that were scanned where voxels are elongated.
        slices: how many, evenly spaced from the first to the last that is not empty, the peak's
            among them; or which, as indices along the array's own axis.
        columns: how many stand in a row; None = as many as make a page of good shape.
        target: which of the result's targets.
        scale: as in `medsal.view.ortho`.
        title: None = the file's name.
        figure: a figure or subfigure to fill; None = a new one, of fitting size.
        axes: matplotlib Axes to draw the slices in instead, as many as there are slices.
        **look: options that all figures have; see `medsal.view.ortho`.

    Returns:
        The figure. It belongs to no pyplot state and shows itself in a notebook.

    Raises:
        ValueError: a signal, slices outside the image, or an option out of its range.
        LookupError: no such plane, target, channel, window or colour map.
    """
    drawing = draw(result, target=target, scale=scale, title=title, crosshair=False, **look)
    along = choose_plane(drawing.scene.grid, plane, drawing.radiological)
    if drawing.scene.grid.axes == 2:
        tiles = _plain_and_mapped(drawing, along)
    else:
        steps = turned_slices(drawing, along, slices)
        tiles = [_tile(drawing.at(along, index), along) for index in steps]
    if axes is not None:
        return fill_axes([Row(tuple(tiles))], axes)
    if columns is not None and columns < 1:
        raise ValueError(f"expected one column or more, got {columns}")
    count = min(columns or _columns(len(tiles), *tiles[0].size), len(tiles))
    rows = [Row(tuple(tiles[k : k + count])) for k in range(0, len(tiles), count)]
    rows[0] = dataclasses.replace(rows[0], shade=drawing.shade)
    text = said(drawing, [along])
    return fill_gallery(rows, text, drawing.dark, figure)


def turned_slices(drawing: Drawing, plane: Plane, slices: int | Sequence[int]) -> list[int]:
    """Indices along the turned axis, in the order in which they are shown.

    Raises:
        ValueError: no slice, or one outside the image.
    """
    grid, normal = drawing.scene.grid, plane.normal
    count = grid.shape[normal]
    if isinstance(slices, int):
        if slices < 1:
            raise ValueError(f"expected one slice or more, got {slices}")
        return _spread(drawing, plane, min(slices, count))
    wanted = [int(index) for index in slices]
    if not wanted or not all(-count <= index < count for index in wanted):
        raise ValueError(f"expected slices of 0 to {count - 1}, got {wanted}")
    wanted = [index % count for index in wanted]
    return [count - 1 - index if grid.flipped[normal] else index for index in wanted]


def _spread(drawing: Drawing, plane: Plane, count: int) -> list[int]:
    first, last = filled(drawing, plane)
    if last - first + 1 < count:
        first, last = 0, drawing.scene.grid.shape[plane.normal] - 1
    steps = (
        np.linspace(first, last, count + 2)[1:-1] if count < 3 else np.linspace(first, last, count)
    )
    found = sorted({round(step) for step in steps})
    peak = drawing.scene.peak
    if peak is not None and peak[plane.normal] not in found:
        nearest = min(range(len(found)), key=lambda k: abs(found[k] - peak[plane.normal]))
        found[nearest] = peak[plane.normal]
    return sorted(found)


def filled(drawing: Drawing, plane: Plane) -> tuple[int, int]:
    """The first and the last turned slice that show more than the background, or the peak."""
    scene, window = drawing.scene, drawing.window
    level = window.low + 0.1 * (window.high - window.low)
    steps = [slice(None, None, max(1, n // 64)) for n in scene.grid.shape]
    steps[plane.normal] = slice(None)
    others = tuple(axis for axis in range(3) if axis != plane.normal)
    image = scene.image[tuple(steps)]
    share = (image > level).mean(axis=tuple(range(3, image.ndim)) + others)
    found = [int(index) for index in np.flatnonzero(share >= FILLED)]
    found += [] if scene.peak is None else [scene.peak[plane.normal]]
    return (min(found), max(found)) if found else (0, scene.grid.shape[plane.normal] - 1)


def _tile(drawing: Drawing, plane: Plane) -> Tile:
    where, which = words.position(plane, drawing.focus, drawing.scene.grid)
    return Tile(drawing, plane, where or which, which if where else "")


def _plain_and_mapped(drawing: Drawing, plane: Plane) -> list[Tile]:
    bare = dataclasses.replace(drawing, shade=dataclasses.replace(drawing.shade, opacity=0.0))
    return [Tile(bare, plane, "without the map"), Tile(drawing, plane, "with the map")]


def _columns(count: int, width: float, height: float) -> int:
    """As many as give a page of good shape with few places left empty."""

    def fault(columns: int) -> float:
        rows = -(-count // columns)
        shape = columns * width / (rows * height)
        return abs(math.log(shape / SHAPE)) + (columns * rows - count) / count

    return min(range(1, count + 1), key=fault)
