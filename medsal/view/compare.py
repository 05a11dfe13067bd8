"""Maps of one case side by side: methods down, targets across, on one slice."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from medsal.result import SaliencyMap
from medsal.view import words
from medsal.view.colour import Shade
from medsal.view.gallery import Row, Tile, fill_axes, fill_gallery
from medsal.view.look import Look, choose_plane, draw_scene
from medsal.view.panel import Drawing
from medsal.view.plan import Said, has_unseen, setting
from medsal.view.scale import Asked, Scale, join, scale_of
from medsal.view.scene import Scene, scene

if TYPE_CHECKING:
    import matplotlib.figure

SHARES = {
    "method": "one scale for each row: methods differ in their units",
    "all": "one scale for all maps",
    "none": "each map up to a largest value of its own, written above it",
}


def compare(
    results: SaliencyMap | Sequence[SaliencyMap],
    *,
    plane: str | int | None = None,
    point: Any = None,
    share: str = "method",
    scale: Scale | float | int | str | None = None,
    title: str | None = None,
    figure: matplotlib.figure.FigureBase | None = None,
    axes: Any = None,
    crosshair: bool = True,
    **look: Unpack[Look],
) -> matplotlib.figure.Figure:
    """Maps of one case in one figure: a row for each method, its targets across, on one slice.

    Args:
        results: maps of one sample on one grid; results of the same method share a row.
        plane: as in `medsal.view.montage`.
        point: what the slice goes through, as in `medsal.view.ortho`; None = the strongest peak of
            the first method.
        share: who shares a scale: "method" = the maps of a method, whose values have one unit;
            "all"; or "none". The figure says which.
        scale: None = the largest magnitude of those who share; else as in `medsal.view.ortho`.
        title: None = the file's name.
        figure: a figure or subfigure to fill; None = a new one, of fitting size.
        axes: matplotlib Axes to draw the maps in instead, as many as there are maps.
        crosshair: mark the point.
        **look: options that all figures have; see `medsal.view.ortho`.

    Returns:
        The figure. It belongs to no pyplot state and shows itself in a notebook.

    Raises:
        ValueError: no result, maps on different grids, or an option out of its range.
        LookupError: no such plane, channel, window, colour map or way to share.
    """
    if share not in SHARES:
        raise LookupError(f"expected share as one of {', '.join(map(repr, SHARES))}, got {share!r}")
    results = [results] if isinstance(results, SaliencyMap) else list(results)
    options: dict[str, Any] = {**look, "title": title, "crosshair": crosshair}
    views = {
        key: options.pop(key) for key in ("channel", "rows_first", "classes") if key in options
    }
    pairs = [(each, k) for each in results for k in range(len(each.targets))]
    scenes = [scene(each, k, **views) for each, k in pairs]
    _check_one_case(scenes)
    scales = _scales(scenes, share, scale)
    drawn = [
        draw_scene(each, point=point, scale=on, **options)
        for each, on in zip(scenes, scales, strict=True)
    ]
    drawn = [dataclasses.replace(each, focus=_strongest(drawn).focus) for each in drawn]
    rows = _rows(drawn, plane)
    if axes is not None:
        return fill_axes(rows, axes)
    return fill_gallery(_barred(rows, share), _said(rows, share), drawn[0].dark, figure)


def _check_one_case(scenes: Sequence[Scene]) -> None:
    if not scenes:
        raise ValueError("expected one result or more, got none")
    one, *others = (each.grid for each in scenes)
    for grid in others:
        if grid.shape != one.shape or not np.allclose(grid.affine, one.affine, atol=1e-3):
            raise ValueError(
                f"expected maps of one case on one grid, got {one.shape} and {grid.shape} voxels "
                "or other places; bring them to the scan: [each.home() for each in results]"
            )


def _scales(scenes: Sequence[Scene], share: str, asked: Asked) -> list[Scale]:
    """A scale for each map, shared as asked for."""
    groups = [words.asked(each) if share == "method" else share for each in scenes]
    if share == "none":
        return [scale_of(each, asked) for each in scenes]
    found = {
        group: join([each for each, of in zip(scenes, groups, strict=True) if of == group], asked)
        for group in groups
    }
    return [found[group] for group in groups]


def _strongest(drawn: Sequence[Drawing]) -> Drawing:
    """The map with the largest magnitude of those of the first method."""
    method = words.asked(drawn[0].scene)
    first = [each for each in drawn if words.asked(each.scene) == method]
    return max(first, key=lambda each: max(each.scene.high, -each.scene.low))


def _rows(drawn: Sequence[Drawing], plane: str | int | None) -> list[Row]:
    """A row for each method, in the order in which they came."""
    grid, radiological = drawn[0].scene.grid, drawn[0].radiological
    along = None if grid.axes == 1 else choose_plane(grid, plane, radiological)
    groups: dict[str, list[Tile]] = {}
    for each in drawn:
        low, high = each.shade.low, each.shade.high
        said = "empty map" if each.shade.empty else f"raw {words.span(low, high)}"
        tile = Tile(each, along, each.scene.target, said)
        groups.setdefault(words.asked(each.scene), []).append(tile)
    return [Row(tuple(tiles), heading) for heading, tiles in groups.items()]


def _barred(rows: Sequence[Row], share: str) -> list[Row]:
    """A colour bar for each row, or one for all; none where each map has a scale of its own."""
    if share == "none":
        return list(rows)
    if share == "all":
        return [dataclasses.replace(rows[0], shade=_common(rows)), *rows[1:]]
    return [dataclasses.replace(row, shade=_common([row])) for row in rows]


def _common(rows: Sequence[Row]) -> Shade:
    """The colours of several maps on one scale, with the range of all."""
    shades = [tile.drawing.shade for row in rows for tile in row.tiles]
    low, high = min(each.low for each in shades), max(each.high for each in shades)
    return dataclasses.replace(shades[0], low=low, high=high)


def _said(rows: Sequence[Row], share: str) -> Said:
    drawn = [tile.drawing for row in rows for tile in row.tiles]
    first, plane = drawn[0], rows[0].tiles[0].plane
    grid = first.scene.grid
    parts = [first.scene.model]
    if plane is not None:
        parts += [" ".join(words.caption(plane, first.focus, grid)).lower()]
    share = "all" if share == "method" and len(rows) == 1 else share
    lines = [f"Colours: {SHARES[share]}"]
    lines += [f"All through {words.place(first.focus, grid)}"]
    if any(each.shade.clipped for each in drawn):
        lines += ["Some values lie beyond the end of the colours: drawn in the last colour"]
    return Said(
        first.title,
        words.convention(grid, () if plane is None else (plane,), first.radiological),
        " · ".join(filter(None, parts)),
        (" · ".join(lines), setting(first)),
        tuple(dict.fromkeys(note for each in drawn for note in each.scene.notes)),
        any(has_unseen(each) for each in drawn),
    )
