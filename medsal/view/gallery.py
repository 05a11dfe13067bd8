"""A gallery: rows of panels at one size, with a colour bar beside each row or beside all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from medsal.view.bar import WIDTH as BAR
from medsal.view.bar import draw_bar
from medsal.view.colour import Shade
from medsal.view.page import Box, Page, line_height, measure, new_page, old_page, shorten, size_of
from medsal.view.panel import Drawing, draw_plane, draw_signal, label_sides
from medsal.view.plan import CAPTION, FOOT, GUTTER, MARGIN, NARROWEST, SUBTITLE, Said, Texts
from medsal.view.planes import Plane
from medsal.view.sheet import draw_foot, draw_head, root

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

WIDEST, TALLEST = 12.5, 14.0  # inches, of a page of its own
BIGGEST = 3.6  # inches, the height of a panel
LETTERS = "#f1f3f4"  # of the patient's sides, on the scan
LETTERED = 0.7  # inches; smaller panels have no room for them
SIGNAL = (3.0, 0.8)  # the shape of a signal's panel


@dataclass(frozen=True, eq=False)
class Tile:
    """One panel, with a name and some words above it; without a plane it is a signal's."""

    drawing: Drawing
    plane: Plane | None
    name: str
    words: str = ""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height [unit of the grid]."""
        return SIGNAL if self.plane is None else self.drawing.scene.grid.size(self.plane)


@dataclass(frozen=True, eq=False)
class Row:
    """Panels under one heading; `shade` gives them, and rows below without one, a colour bar."""

    tiles: tuple[Tile, ...]
    heading: str = ""
    shade: Shade | None = None


@dataclass(frozen=True)
class Plan:
    """Sizes [inch] of a gallery; tops are measured downwards."""

    width: float
    height: float
    cell: float  # width of a column
    panel: tuple[float, float]
    caption: float  # room above a panel
    heading: float  # room above a row
    tops: tuple[float, ...]  # of the panels of each row
    foot: float
    texts: Texts


def fill_gallery(
    rows: Sequence[Row],
    said: Said,
    dark: bool,
    figure: matplotlib.figure.FigureBase | None = None,
) -> matplotlib.figure.Figure:
    """A whole page, in a new figure or in the caller's."""
    if figure is None:
        plan = plan_gallery(rows, said, WIDEST, TALLEST)
        page = new_page(plan.width, plan.height, dark)
    else:
        plan = _plan_within(rows, said, *size_of(figure))
        page = old_page(figure, dark, (plan.width, plan.height))
    draw_head(page, plan.texts, plan.width)
    for row, top in zip(rows, plan.tops, strict=True):
        _row(page, plan, row, top, first=row is rows[0])
    _bars(page, plan, rows)
    draw_foot(page, plan.texts, plan.width, plan.foot)
    return root(page.figure)


def fill_axes(rows: Sequence[Row], axes: Any) -> matplotlib.figure.Figure:
    """The panels alone, in the caller's axes.

    Raises:
        ValueError: there are not as many axes as panels.
    """
    given = list(np.ravel(np.asarray(axes, dtype=object)))
    tiles = [tile for row in rows for tile in row.tiles]
    if len(given) != len(tiles):
        raise ValueError(f"expected {len(tiles)} matplotlib Axes, one per panel, got {len(given)}")
    for each, tile in zip(given, tiles, strict=True):
        _panel(each, tile, letters=True)
        each.set_title(tile.name, fontsize=CAPTION)
        each.set_xlabel(tile.words, fontsize=FOOT)
    return root(given[0])


def plan_gallery(rows: Sequence[Row], said: Said, widest: float, tallest: float) -> Plan:
    """As large as it may be, and no larger than it needs to be."""
    columns = max(len(row.tiles) for row in rows)
    tiles = [tile for row in rows for tile in row.tiles]
    wide, high = (max(size) for size in zip(*(tile.size for tile in tiles), strict=True))
    lines = 1 + any(tile.words for tile in tiles)
    caption = lines * line_height(CAPTION) + 0.04
    heading = line_height(SUBTITLE) + 0.08 if any(row.heading for row in rows) else 0.0
    frame = 2 * MARGIN + BAR + (columns - 1) * GUTTER
    least = max(measure(tile.name, CAPTION, bold=True) for tile in tiles)
    least = min(max(least, *(measure(tile.words, CAPTION) for tile in tiles)), 2.0)
    texts = said.set(max(widest, NARROWEST))
    around = _around(texts) + len(rows) * (caption + heading + GUTTER)
    room = max((tallest - around) / len(rows), 0.6)
    scale = min(max((widest - frame) / columns, 0.6) / wide, min(room, BIGGEST) / high)
    panel = wide * scale, high * scale
    cell = max(panel[0], least)
    width = max(columns * cell + frame, NARROWEST)
    texts = said.set(width)
    step = max(panel[1], _least(rows) - caption - heading) + caption + heading + GUTTER
    start = MARGIN + texts.head + 0.14 + caption + heading
    tops = tuple(start + k * step for k in range(len(rows)))
    foot = start + len(rows) * step - caption - heading
    height = foot + len(texts.foot) * line_height(FOOT) + MARGIN
    return Plan(width, height, cell, panel, caption, heading, tops, foot, texts)


def _plan_within(rows: Sequence[Row], said: Said, width: float, height: float) -> Plan:
    """For a figure of that size: in a small one, text and panels both become smaller."""
    own = plan_gallery(rows, said, WIDEST, TALLEST)
    zoom = min(1.0, width / own.width, height / own.height) ** 0.5
    return plan_gallery(rows, said, width / zoom, height / zoom)


def _around(texts: Texts) -> float:
    """The height of all that is not rows."""
    return 2 * MARGIN + texts.head + 0.14 + len(texts.foot) * line_height(FOOT)


def _least(rows: Sequence[Row]) -> float:
    """The least height of a row that has a colour bar to itself, or shares one."""
    bars = sum(row.shade is not None for row in rows)
    return 2.2 * bars / len(rows)


def _row(page: Page, plan: Plan, row: Row, top: float, first: bool) -> None:
    if row.heading:
        line = shorten(row.heading, plan.width - 2 * MARGIN - BAR, SUBTITLE, bold=True)
        page.text(MARGIN, top - plan.caption - plan.heading, line, SUBTITLE, weight="bold")
    for k, tile in enumerate(row.tiles):
        left = MARGIN + k * (plan.cell + GUTTER)
        axes = page.axes(Box(left, top, *plan.panel))
        lettered = first and k == 0 and bool(min(plan.panel) > LETTERED)
        _panel(axes, tile, letters=lettered, zoom=page.zoom)
        above = top - plan.caption
        name = shorten(tile.name, plan.cell, CAPTION, bold=True)
        said = shorten(tile.words, plan.cell, CAPTION)
        page.text(left, above, name, CAPTION, weight="bold")
        page.text(left, above + line_height(CAPTION), said, CAPTION, color=page.ink.muted)


def _panel(axes: matplotlib.axes.Axes, tile: Tile, letters: bool, zoom: float = 1.0) -> None:
    if tile.plane is None:
        draw_signal(axes, tile.drawing)
        axes.set(xticks=[])
        return
    draw_plane(axes, tile.drawing, tile.plane)
    if letters:
        sides = tile.drawing.scene.grid.letters(tile.plane)
        label_sides(axes, sides, LETTERS, inside=True, zoom=zoom)


def _bars(page: Page, plan: Plan, rows: Sequence[Row]) -> None:
    """Each bar reaches down to the next."""
    starts = [k for k, row in enumerate(rows) if row.shade is not None]
    for start, end in pairwise([*starts, len(rows)]):
        shade = rows[start].shade
        top = plan.tops[start] + (0.14 if plan.caption < 0.3 else 0.0)
        bottom = plan.tops[end] - plan.caption - plan.heading if end < len(rows) else plan.foot
        left = plan.width - MARGIN - BAR + 0.34
        if shade is not None:
            draw_bar(page, Box(left, top, BAR - 0.34, bottom - GUTTER - top), shade)
