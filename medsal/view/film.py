"""A film page: one large panel that moves along an axis, beside the planes that stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsal.view import words
from medsal.view.bar import WIDTH as BAR
from medsal.view.bar import draw_bar
from medsal.view.page import Box, Page, line_height, measure, new_page, old_page, size_of
from medsal.view.panel import CROSS, Drawing, draw_plane, label_sides
from medsal.view.plan import CAPTION, FOOT, GUTTER, MARGIN, NARROWEST, Texts, said
from medsal.view.planes import NEGATIVE, POSITIVE, Plane
from medsal.view.sheet import draw_foot, draw_head

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import matplotlib.text

LARGE = (4.8, 4.6)  # inches, width and height of the moving panel at most
SMALL = 2.6  # inches, width of the others at most
LOWEST = 2.8  # inches
STRIP, STRIP_GAP = 0.13, 0.1  # inches
LETTERS = "#f1f3f4"


@dataclass(frozen=True)
class Plan:
    """Boxes [inch] of a film page."""

    width: float
    height: float
    large: Box
    small: tuple[Box, ...]
    strip: Box
    bar: Box
    foot: float
    texts: Texts


@dataclass(frozen=True, eq=False)
class Mark:
    """A line that shows where the large panel is: upright or level, by its index or its place."""

    line: Any
    upright: bool
    by_index: bool

    def move(self, index: float, place: float) -> None:
        at = index if self.by_index else place
        (self.line.set_xdata if self.upright else self.line.set_ydata)([at, at])


@dataclass(frozen=True, eq=False)
class Film:
    """A page that shows any of its steps: slices along the plane's normal; of a picture, opacities.

    Attributes:
        steps: turned indices, or shares of the opacity for a 2D image.
        large: the axes that change.
        position: the words that change.
        marks: the lines that move.
    """

    page: Page
    drawing: Drawing
    plane: Plane
    steps: tuple[float, ...]
    large: matplotlib.axes.Axes
    position: matplotlib.text.Text
    marks: tuple[Mark, ...]
    strip: Box

    def show(self, k: int) -> None:
        """Draw step k; what stays is not drawn anew."""
        step, drawing, grid = self.steps[k], self.drawing, self.drawing.scene.grid
        if grid.axes == 2:
            shade = dataclasses.replace(drawing.shade, opacity=drawing.shade.opacity * step)
            drawing = dataclasses.replace(drawing, shade=shade)
        else:
            drawing = drawing.at(self.plane, int(step))
        self.large.clear()
        draw_plane(self.large, drawing, self.plane)
        letters = grid.letters(self.plane)
        label_sides(self.large, letters, LETTERS, inside=True, zoom=self.page.zoom)
        where = words.caption(self.plane, drawing.focus, grid)[1]
        self.position.set_text(f"opacity {step:.0%}" if grid.axes == 2 else where)
        for mark in self.marks:
            mark.move(step, float(drawing.focus.place[self.plane.normal]))


def open_film(
    drawing: Drawing,
    plane: Plane,
    steps: Sequence[float],
    figure: matplotlib.figure.FigureBase | None = None,
) -> Film:
    """The page with all that stays on it, in a new figure or in the caller's."""
    plan = _plan(drawing, plane, 1.0)
    if figure is None:
        page = new_page(plan.width, plan.height, drawing.dark)
    else:
        width, height = size_of(figure)
        plan = _plan(drawing, plane, max(1.0, min(width / plan.width, height / plan.height)))
        page = old_page(figure, drawing.dark, (plan.width, plan.height))
    draw_head(page, plan.texts, plan.width)
    draw_foot(page, plan.texts, plan.width, plan.foot)
    draw_bar(page, plan.bar, drawing.shade)
    marks = [
        _small(page, box, drawing, each, plane)
        for box, each in zip(plan.small, _others(drawing, plane), strict=True)
    ]
    if drawing.scene.grid.axes == 3:
        marks.append(_strip(page, plan.strip, drawing, plane))
    name = words.caption(plane, drawing.focus, drawing.scene.grid)[0]
    position = _caption(page, plan.large, name, "")
    large = page.axes(plan.large)
    return Film(page, drawing, plane, tuple(steps), large, position, tuple(marks), plan.strip)


def frames(film: Film) -> Iterator[NDArray[np.uint8]]:
    """Each step as a picture (rows, columns, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure: Any = film.page.figure
    canvas: Any = FigureCanvasAgg(figure)
    changing = [film.large, film.position, *(mark.line for mark in film.marks)]
    for artist in changing:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for k in range(len(film.steps)):
        canvas.restore_region(still)
        film.show(k)
        for artist in changing:
            artist.draw(canvas.get_renderer())
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _others(drawing: Drawing, plane: Plane) -> list[Plane]:
    return [each for each in drawing.planes if each.name != plane.name]


def _plan(drawing: Drawing, plane: Plane, growth: float) -> Plan:
    grid = drawing.scene.grid
    wide, high = grid.size(plane)
    scale = min(LARGE[0] / wide, LARGE[1] / high) * growth
    wide, high = wide * scale, high * scale
    others = [grid.size(each) for each in _others(drawing, plane)]
    row, caption = max(high, LOWEST), line_height(CAPTION)
    column = 0.0
    if others:
        gap = caption + GUTTER
        scale = min(
            SMALL * growth / max(w for w, _ in others),
            (row - gap * (len(others) - 1)) / sum(h for _, h in others),
        )
        column = max(w for w, _ in others) * scale
        least = [sum(_widths(drawing, each)) for each in _others(drawing, plane)]
        column = max(column, *least)
    width = max(2 * MARGIN + wide + bool(others) * GUTTER + column + GUTTER + BAR, NARROWEST)
    texts = said(drawing, drawing.planes).set(width)
    top = MARGIN + texts.head + 0.14 + caption
    left = MARGIN + wide + GUTTER
    small, below = [], top
    for w, h in others:
        small.append(Box(left, below, w * scale, h * scale))
        below += h * scale + caption + GUTTER
    strip = Box(MARGIN, top + high + STRIP_GAP, wide, STRIP)
    foot = top + row + 0.12
    if others:
        foot = max(foot, strip.top + STRIP + line_height(FOOT) + 0.12)
    bar = Box(width - MARGIN - BAR + 0.34, top, BAR - 0.34, row)
    height = foot + len(texts.foot) * line_height(FOOT) + MARGIN
    large = Box(MARGIN, top, wide, high)
    return Plan(width, height, large, tuple(small), strip, bar, foot, texts)


def _widths(drawing: Drawing, plane: Plane) -> tuple[float, float]:
    name, position = words.caption(plane, drawing.focus, drawing.scene.grid)
    return measure(name, CAPTION, bold=True) + 0.1, measure(position, CAPTION)


def _caption(page: Page, box: Box, name: str, position: str) -> matplotlib.text.Text:
    """A panel's name, and behind it the words of its position."""
    above = box.top - line_height(CAPTION)
    page.text(box.left, above, name, CAPTION, weight="bold")
    left = box.left + measure(name, CAPTION, bold=True) + 0.1
    return page.text(left, above, position, CAPTION, color=page.ink.muted)


def _small(page: Page, box: Box, drawing: Drawing, plane: Plane, moving: Plane) -> Mark:
    """A plane through the peak, and on it a line where the large panel is."""
    _caption(page, box, *words.caption(plane, drawing.focus, drawing.scene.grid))
    axes = page.axes(box)
    draw_plane(axes, drawing, plane)
    letters = drawing.scene.grid.letters(plane)
    label_sides(axes, letters, LETTERS, inside=True, zoom=page.zoom)
    upright = plane.across == moving.normal
    line = (axes.axvline if upright else axes.axhline)(0.0, color=CROSS, lw=1.0, alpha=0.9)
    return Mark(line, upright, by_index=False)


def _strip(page: Page, box: Box, drawing: Drawing, plane: Plane) -> Mark:
    """The strongest value of each slice in the colours of the map, and where the large panel is."""
    scene, shade = drawing.scene, drawing.shade
    seen = True if scene.seen is None else scene.seen
    others = tuple(axis for axis in range(3) if axis != plane.normal)
    high = scene.saliency.max(axis=others, where=seen, initial=0.0)
    low = scene.saliency.min(axis=others, where=seen, initial=0.0)
    strongest = np.where(high >= -low, high, low)[None]
    axes = page.axes(box)
    axes.set(xticks=[], yticks=[], facecolor="black")
    extent = (-0.5, strongest.size - 0.5, 0.0, 1.0)
    style: dict[str, Any] = {"extent": extent, "aspect": "auto", "interpolation": "nearest"}
    if not shade.empty:
        axes.imshow(strongest, cmap=shade.colours(), norm=shade.norm(), label="strip", **style)
    axes.set(xlim=extent[:2], ylim=extent[2:])
    for spine in axes.spines.values():
        spine.set(color=page.ink.line, linewidth=0.6)
    below = box.top + box.height + 0.03
    ends = ("", "")
    if scene.grid.known:
        ends = NEGATIVE[plane.normal], POSITIVE[plane.normal]
    muted = page.ink.muted
    page.text(box.left, below, ends[0], FOOT, color=muted)
    page.text(box.left + box.width, below, ends[1], FOOT, ha="right", color=muted)
    said = "strongest value of each slice"
    page.text(box.left + box.width / 2, below, said, FOOT, ha="center", color=muted)
    line = axes.axvline(0.0, color="white", lw=1.4)
    return Mark(line, upright=True, by_index=True)
