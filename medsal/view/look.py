"""From a result and the options of a figure to a drawing: the same for every kind of figure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, TypedDict

import numpy as np

from medsal.result import SaliencyMap
from medsal.view.colour import Window, colour_window, grey_window, shade, signal_window
from medsal.view.panel import Drawing
from medsal.view.planes import Focus, Grid, Plane
from medsal.view.scale import Asked, scale_of
from medsal.view.scene import Scene, scene

ELONGATED = 1.5  # voxels as much longer than they are wide were scanned in slices


class Look(TypedDict, total=False):
    """Options that figures of every kind have; `medsal.view.ortho` says what they mean."""

    window: str | Sequence[float | int] | None
    percentile: Sequence[float | int]
    threshold: float | int | None
    opacity: float | int
    cmap: str | None
    radiological: bool
    channel: int | None
    rows_first: bool | None
    classes: Sequence[str]
    dark: bool


def draw(
    result: SaliencyMap,
    *,
    target: int = 0,
    channel: int | None = None,
    rows_first: bool | None = None,
    classes: Sequence[str] = (),
    **options: Any,
) -> Drawing:
    """One map of a result as it is to be drawn; see `medsal.view.ortho` for options and errors."""
    return draw_scene(scene(result, target, channel, rows_first, classes), **options)


def draw_scene(
    shown: Scene,
    *,
    point: Any = None,
    scale: Asked = None,
    crosshair: bool = True,
    title: str | None = None,
    window: str | Sequence[float | int] | None = None,
    percentile: Sequence[float | int] = (0.5, 99.5),
    threshold: float | int | None = None,
    opacity: float | int = 0.85,
    cmap: str | None = None,
    radiological: bool = True,
    dark: bool = True,
) -> Drawing:
    """A scene as it is to be drawn."""
    return Drawing(
        scene=shown,
        focus=_focus(shown, point),
        shade=shade(
            shown.low,
            shown.high,
            scale_of(shown, scale),
            threshold=threshold,
            opacity=opacity,
            cmap=cmap,
        ),
        window=_window(shown, window, percentile),
        radiological=radiological,
        crosshair=crosshair,
        title=shown.name if title is None else title,
        dark=dark,
    )


def choose_plane(grid: Grid, plane: str | int | None, radiological: bool) -> Plane:
    """A plane by its name, or by the array's axis that it is normal to.

    None = axial, or the planes that were scanned where voxels are elongated; the only plane of a
    2D image.

    Raises:
        LookupError: the grid has no such plane.
        ValueError: a signal of one axis, which has no planes.
    """
    if grid.axes == 1:
        raise ValueError("expected an image of 2 or 3 axes, got a signal: use result.plot()")
    planes = grid.planes(radiological)
    if plane is None:
        longest = max(planes, key=lambda each: grid.zooms[each.normal])
        first = planes[0]
        elongated = grid.zooms[longest.normal] > ELONGATED * grid.zooms[first.normal]
        return longest if elongated else first
    if isinstance(plane, int):
        for each in planes:
            if grid.order[each.normal] == plane:
                return each
        raise LookupError(f"the image has axes 0 to {grid.axes - 1}; got axis {plane}")
    for each in planes:
        if each.name == plane:
            return each
    names = [each.name for each in planes]
    near = ", ".join(map(repr, get_close_matches(plane, names) or names))
    raise LookupError(f"no plane {plane!r}; known: {near}")


def _focus(shown: Scene, point: Any) -> Focus:
    grid = shown.grid
    if point is not None:
        return grid.find(np.asarray(point, dtype=np.float64))
    return grid.centre() if shown.peak is None else grid.at(np.asarray(shown.peak))


def _window(
    shown: Scene, window: str | Sequence[float | int] | None, percentile: Sequence[float | int]
) -> Window:
    if shown.grid.axes == 1:
        return signal_window(shown.image)
    if shown.image.ndim > 3:
        return colour_window(shown.image)
    return grey_window(shown.image, window, percentile)
