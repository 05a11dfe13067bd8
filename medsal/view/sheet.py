"""The sheet: heading, panels, colour bar and footer, laid out in inches so that nothing meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medsal.view import words
from medsal.view.bar import WIDTH as BAR
from medsal.view.bar import draw_bar
from medsal.view.page import (
    ASCENT,
    FAMILY,
    Box,
    Page,
    line_height,
    measure,
    new_page,
    old_page,
    shorten,
    wrap,
)
from medsal.view.panel import VEIL, Drawing, draw_plane, draw_signal, label_sides

if TYPE_CHECKING:
    import matplotlib.figure

MARGIN = 0.3
SIDE = 0.24  # room for a letter beside a panel
PLAIN = 0.1  # room beside a panel without letters
GUTTER = 0.14  # between panels
TITLE, SUBTITLE, CAPTION, FOOT = 12.5, 8.5, 8.5, 7.5  # points
WIDEST, NARROWEST, LOWEST = 12.5, 7.6, 2.3  # inches
TALLEST = {1: 4.8, 3: 6.0}  # by the number of panels
NOTES = 8  # lines of notes


@dataclass(frozen=True)
class Plan:
    """Sizes [inch] of a sheet; tops are measured downwards."""

    width: float
    height: float
    cells: tuple[float, ...]  # width of each panel's column
    panels: tuple[tuple[float, float], ...]  # width and height of each panel
    side: float  # room beside each panel
    top: float  # of the panels
    row: float  # height of the row of panels
    title: str
    convention: str
    heading: tuple[str, ...]
    foot: tuple[str, ...]


def fill_page(
    drawing: Drawing, figure: matplotlib.figure.FigureBase | None = None
) -> matplotlib.figure.Figure:
    """A whole sheet, in a new figure or in the caller's."""
    if figure is None:
        plan = _plan(drawing, None, None)
        page = new_page(plan.width, plan.height, drawing.dark)
    else:
        page = old_page(figure, drawing.dark)
        plan = _plan(drawing, page.width, page.height)
    _head(page, plan)
    _panels(page, plan, drawing)
    _foot(page, plan, drawing)
    return _root(page.figure)


def fill_axes(drawing: Drawing, axes: Any) -> matplotlib.figure.Figure:
    """The panels alone, in the caller's axes.

    Raises:
        ValueError: there are not as many axes as planes.
    """
    given = list(np.ravel(np.asarray(axes, dtype=object)))
    count = 1 if drawing.scene.grid.axes == 1 else len(drawing.planes)
    if len(given) != count:
        raise ValueError(f"expected {count} matplotlib Axes, one per plane, got {len(given)}")
    if drawing.scene.grid.axes == 1:
        draw_signal(given[0], drawing)
        return _root(given[0])
    for each, plane in zip(given, drawing.planes, strict=True):
        draw_plane(each, drawing, plane)
        label_sides(each, drawing.scene.grid.letters(plane), "#f1f3f4", inside=True)
        name, position = words.caption(plane, drawing.focus, drawing.scene.grid)
        each.set_title(f"{name.capitalize()}  {position}".strip(), fontsize=CAPTION)
    return _root(given[0])


def _root(artist: Any) -> matplotlib.figure.Figure:
    """The figure that holds an artist, through any subfigures."""
    root: matplotlib.figure.Figure = artist.figure
    return root if root is artist or root.figure is root else _root(root)


def _plan(drawing: Drawing, width: float | None, height: float | None) -> Plan:
    """The sizes of everything; a page of its own gets the width and height that it needs."""
    side = SIDE if drawing.scene.grid.known else PLAIN
    sizes, least = _sizes(drawing), _least(drawing, side)
    signal = drawing.scene.grid.axes == 1
    widest = width or (WIDEST if len(sizes) == 3 else 8.4)
    room = widest - 2 * MARGIN - BAR - (len(sizes) - 1) * GUTTER
    cells, panels = _fit(sizes, least, room, TALLEST[len(sizes)] if height is None else 1e9, side)
    used = sum(cells) + widest - room
    width = width or (widest if signal else max(used, NARROWEST))
    title, convention, heading, foot = _texts(drawing, width)
    top = MARGIN + line_height(TITLE) + 0.04 + len(heading) * line_height(SUBTITLE)
    top += 0.16 + line_height(CAPTION) + side
    bottom = side + 0.12 + len(foot) * line_height(FOOT) + MARGIN
    if height is not None:
        cells, panels = _fit(sizes, least, room, max(height - top - bottom, 0.3), side)
    row = max(LOWEST, *(h for _, h in panels)) if height is None else height - top - bottom
    if signal:
        panels = ((panels[0][0], row),)
    return Plan(
        width, top + row + bottom, cells, panels, side, top, row, title, convention, heading, foot
    )


def _sizes(drawing: Drawing) -> list[tuple[float, float]]:
    if drawing.scene.grid.axes == 1:
        return [(1.0, 0.3)]
    return [drawing.scene.grid.size(plane) for plane in drawing.planes]


def _captions(drawing: Drawing) -> list[tuple[str, str]]:
    grid, focus = drawing.scene.grid, drawing.focus
    if grid.axes == 1:
        count = drawing.scene.image.shape[-1]
        return [("SIGNAL", f"{grid.shape[0]} samples" + f", {count} channels" * (count > 1))]
    return [words.caption(plane, focus, grid) for plane in drawing.planes]


def _least(drawing: Drawing, side: float) -> list[float]:
    """The least width of each panel's column: that of its caption."""
    return [
        measure(name, CAPTION, bold=True) + measure(position, CAPTION) + 0.2 + side
        for name, position in _captions(drawing)
    ]


def _fit(
    sizes: Sequence[tuple[float, float]],
    least: Sequence[float],
    room: float,
    tallest: float,
    side: float,
) -> tuple[tuple[float, ...], tuple[tuple[float, float], ...]]:
    """Columns and panels at one scale for all planes, no column narrower than its caption."""
    scale = tallest / max(h for _, h in sizes)
    narrow: set[int] = set()
    for _ in sizes:
        wide = [k for k in range(len(sizes)) if k not in narrow]
        free = room - sum(least[k] for k in narrow) - 2 * side * len(wide)
        if wide:
            scale = min(scale, max(free, 0.3) / sum(sizes[k][0] for k in wide))
        narrow = {k for k, (w, _) in enumerate(sizes) if w * scale + 2 * side < least[k]}
    panels = tuple((w * scale, h * scale) for w, h in sizes)
    cells = tuple(max(w + 2 * side, a) for (w, _), a in zip(panels, least, strict=True))
    return cells, panels


def _texts(drawing: Drawing, width: float) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    scene, inner = drawing.scene, width - 2 * MARGIN
    planes = () if scene.grid.axes == 1 else drawing.planes
    convention = words.convention(scene.grid, planes, drawing.radiological)
    title = shorten(drawing.title, inner - measure(convention, SUBTITLE) - 0.3, TITLE, bold=True)
    heading = wrap(words.heading(scene), inner, SUBTITLE, lines=4)
    column = inner - measure(words.RESEARCH, FOOT) - 0.3
    foot = [words.UNSEEN] if _unseen(drawing) else []
    for line in _statements(drawing):
        foot += wrap(line, column, FOOT, lines=3)
    notes = [row for note in scene.notes for row in wrap(f"Note: {note}", column, FOOT, lines=4)]
    if len(notes) > NOTES:
        notes = [*notes[: NOTES - 1], "… more in result.notes"]
    return title, convention, tuple(heading), (*foot, *notes)


def _statements(drawing: Drawing) -> list[str]:
    scene, shade = drawing.scene, drawing.shade
    lines = []
    if shade.empty:
        lines.append(words.EMPTY[0].upper() + words.EMPTY[1:])
    lines.append(words.peak(scene, drawing.focus))
    if shade.clipped:
        ends = f"±{words.number(shade.top)}" if shade.signed else words.number(shade.top)
        lines.append(f"The colours end at {ends}: stronger values are drawn in the last colour")
    parts = (drawing.window.words, scene.channel, words.geometry(scene.grid))
    lines.append(" · ".join(part[0].upper() + part[1:] for part in parts if part))
    return lines


def _unseen(drawing: Drawing) -> bool:
    return drawing.scene.seen is not None and not drawing.scene.seen.all()


def _head(page: Page, plan: Plan) -> None:
    page.text(MARGIN, MARGIN, plan.title, TITLE, weight="bold")
    drop = ASCENT * (TITLE - SUBTITLE) / 72  # one baseline
    right = plan.width - MARGIN
    page.text(right, MARGIN + drop, plan.convention, SUBTITLE, ha="right", color=page.ink.muted)
    top = MARGIN + line_height(TITLE) + 0.04
    for k, line in enumerate(plan.heading):
        page.text(MARGIN, top + k * line_height(SUBTITLE), line, SUBTITLE, color=page.ink.muted)


def _panels(page: Page, plan: Plan, drawing: Drawing) -> None:
    gutters = (len(plan.cells) - 1) * GUTTER
    room = plan.width - 2 * MARGIN - BAR - gutters
    left = MARGIN + max(room - sum(plan.cells), 0.0) / 2
    captions = _captions(drawing)
    for k, (cell, (width, height)) in enumerate(zip(plan.cells, plan.panels, strict=True)):
        axes = page.axes(Box(left, plan.top, width, height))
        if drawing.scene.grid.axes == 1:
            draw_signal(axes, drawing)
            axes.tick_params(colors=page.ink.muted, labelsize=FOOT, labelfontfamily=FAMILY)
        else:
            plane = drawing.planes[k]
            draw_plane(axes, drawing, plane)
            letters = drawing.scene.grid.letters(plane)
            label_sides(axes, letters, page.ink.text, inside=False)
        above = plan.top - plan.side - line_height(CAPTION)
        name, position = captions[k]
        page.text(left, above, name, CAPTION, weight="bold")
        shift = measure(name, CAPTION, bold=True) + 0.1
        page.text(left + shift, above, position, CAPTION, color=page.ink.muted)
        left += cell + GUTTER
    bar = Box(plan.width - MARGIN - BAR + 0.34, plan.top, BAR - 0.34, plan.row)
    draw_bar(page, bar, drawing.shade)


def _foot(page: Page, plan: Plan, drawing: Drawing) -> None:
    top = plan.top + plan.row + plan.side + 0.12
    for k, line in enumerate(plan.foot):
        here, left = top + k * line_height(FOOT), MARGIN
        if k == 0 and _unseen(drawing):
            left += _swatch(page, left, here)
        page.text(left, here, line, FOOT, color=page.ink.muted)
    last = top + (len(plan.foot) - 1) * line_height(FOOT)
    page.text(plan.width - MARGIN, last, words.RESEARCH, FOOT, ha="right", color=page.ink.muted)


def _swatch(page: Page, left: float, top: float) -> float:
    """A hatched sample for the legend; how much room it takes."""
    from matplotlib.patches import Rectangle

    high = line_height(FOOT) * 0.8
    axes = page.axes(Box(left, top, 0.3, high))
    axes.set_axis_off()
    style: dict[str, Any] = {
        "facecolor": (*VEIL, 0.38),
        "edgecolor": (*VEIL, 0.9),
        "linewidth": 0.0,
    }
    axes.add_patch(Rectangle((0, 0), 1, 1, hatch="////", **style))
    return 0.38
