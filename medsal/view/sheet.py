"""The sheet: heading, panels, colour bar and footer, drawn as planned."""

from __future__ import annotations

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
)
from medsal.view.panel import VEIL, Drawing, draw_plane, draw_signal, label_sides
from medsal.view.plan import (
    CAPTION,
    FOOT,
    GUTTER,
    MARGIN,
    SHORTEST,
    SUBTITLE,
    TITLE,
    Plan,
    Texts,
    captions,
    least_width,
    plan_page,
    plan_within,
)

if TYPE_CHECKING:
    import matplotlib.figure


def fill_page(
    drawing: Drawing, figure: matplotlib.figure.FigureBase | None = None
) -> matplotlib.figure.Figure:
    """A whole sheet, in a new figure or in the caller's."""
    if figure is None:
        plan = plan_page(drawing)
        page = new_page(plan.width, plan.height, drawing.dark)
    else:
        page = old_page(figure, drawing.dark, (least_width(drawing), SHORTEST))
        plan = plan_within(drawing, page.width, page.height)
    draw_head(page, plan.texts, plan.width)
    _panels(page, plan, drawing)
    draw_foot(page, plan.texts, plan.width, plan.top + plan.row + plan.side + 0.12)
    return root(page.figure)


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
        return root(given[0])
    for each, plane in zip(given, drawing.planes, strict=True):
        draw_plane(each, drawing, plane)
        label_sides(each, drawing.scene.grid.letters(plane), "#f1f3f4", inside=True)
        name, position = words.caption(plane, drawing.focus, drawing.scene.grid)
        each.set_title(f"{name.capitalize()}  {position}".strip(), fontsize=CAPTION)
    low, high = (words.number(value) for value in (drawing.shade.low, drawing.shade.high))
    said = words.EMPTY if drawing.shade.empty else f"raw range {low} to {high}"
    given[0].set_xlabel(said, fontsize=FOOT)
    return root(given[0])


def root(artist: Any) -> matplotlib.figure.Figure:
    """The figure that holds an artist, through any subfigures."""
    above: matplotlib.figure.Figure = artist.figure
    return above if above is artist or above.figure is above else root(above)


def draw_head(page: Page, texts: Texts, width: float) -> None:
    """The title, the convention and the heading, from the top margin on."""
    page.text(MARGIN, MARGIN, texts.title, TITLE, weight="bold")
    drop = ASCENT * (TITLE - SUBTITLE) / 72  # one baseline
    right = width - MARGIN
    page.text(right, MARGIN + drop, texts.convention, SUBTITLE, ha="right", color=page.ink.muted)
    top = MARGIN + line_height(TITLE) + 0.04
    for k, line in enumerate(texts.heading):
        page.text(MARGIN, top + k * line_height(SUBTITLE), line, SUBTITLE, color=page.ink.muted)


def draw_foot(page: Page, texts: Texts, width: float, top: float) -> None:
    """The statements and notes, and what the figure is not for."""
    for k, line in enumerate(texts.foot):
        here, left = top + k * line_height(FOOT), MARGIN
        if k == 0 and texts.unseen:
            left += _swatch(page, left, here)
        page.text(left, here, line, FOOT, color=page.ink.muted)
    last = top + (len(texts.foot) - 1) * line_height(FOOT)
    page.text(width - MARGIN, last, words.RESEARCH, FOOT, ha="right", color=page.ink.muted)


def _panels(page: Page, plan: Plan, drawing: Drawing) -> None:
    gutters = (len(plan.cells) - 1) * GUTTER
    room = plan.width - 2 * MARGIN - BAR - gutters
    left = MARGIN + max(room - sum(plan.cells), 0.0) / 2
    names = captions(drawing)
    for k, (cell, (width, height)) in enumerate(zip(plan.cells, plan.panels, strict=True)):
        axes = page.axes(Box(left, plan.top, width, height))
        if drawing.scene.grid.axes == 1:
            draw_signal(axes, drawing)
            axes.tick_params(
                colors=page.ink.muted, labelsize=FOOT * page.zoom, labelfontfamily=FAMILY
            )
        else:
            plane = drawing.planes[k]
            draw_plane(axes, drawing, plane)
            letters = drawing.scene.grid.letters(plane)
            label_sides(axes, letters, page.ink.text, zoom=page.zoom)
        above = plan.top - plan.side - line_height(CAPTION)
        name, position = names[k]
        page.text(left, above, name, CAPTION, weight="bold")
        shift = measure(name, CAPTION, bold=True) + 0.1
        page.text(left + shift, above, position, CAPTION, color=page.ink.muted)
        left += cell + GUTTER
    bar = Box(plan.width - MARGIN - BAR + 0.34, plan.top, BAR - 0.34, plan.row)
    draw_bar(page, bar, drawing.shade)


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
