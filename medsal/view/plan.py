"""The plan of a sheet: sizes in inches and wrapped text, so that nothing meets or is cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medsal.view import words
from medsal.view.bar import WIDTH as BAR
from medsal.view.page import line_height, measure, shorten, wrap
from medsal.view.panel import Drawing
from medsal.view.planes import Plane

MARGIN = 0.3
SIDE = 0.24  # room for a letter beside a panel
PLAIN = 0.1  # room beside a panel without letters
GUTTER = 0.14  # between panels
TITLE, SUBTITLE, CAPTION, FOOT = 12.5, 8.5, 8.5, 7.5  # points
NARROWEST, LOWEST = 7.6, 2.3  # inches
WIDEST = {1: 8.4, 3: 12.5}  # by the number of panels
TALLEST = {1: 4.8, 3: 6.0}  # by the number of panels
SHORTEST = 5.0  # of a caller's figure, below which all is drawn smaller
NOTES = 8  # lines of notes


@dataclass(frozen=True)
class Texts:
    """What stands above and below the panels, set in lines for one width."""

    title: str
    convention: str
    heading: tuple[str, ...]
    foot: tuple[str, ...]
    unseen: bool  # the first line of the foot explains the hatching

    @property
    def head(self) -> float:
        """The height of the title and the heading [inch]."""
        return line_height(TITLE) + 0.04 + len(self.heading) * line_height(SUBTITLE)


@dataclass(frozen=True)
class Said:
    """What is said above and below the panels, not yet set in lines."""

    title: str
    convention: str
    heading: str
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    unseen: bool

    def set(self, width: float) -> Texts:
        """In lines for a page of that width [inch]."""
        inner = width - 2 * MARGIN
        room = inner - measure(self.convention, SUBTITLE) - 0.3
        column = inner - measure(words.RESEARCH, FOOT) - 0.3
        foot = [words.UNSEEN] if self.unseen else []
        for line in self.lines:
            foot += wrap(line, column, FOOT, lines=3)
        notes = [row for note in self.notes for row in wrap(f"Note: {note}", column, FOOT, lines=4)]
        if len(notes) > NOTES:
            notes = [*notes[: NOTES - 1], "… more in result.notes"]
        return Texts(
            shorten(self.title, room, TITLE, bold=True),
            self.convention,
            tuple(wrap(self.heading, inner, SUBTITLE, lines=4)),
            (*foot, *notes),
            self.unseen,
        )


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
    texts: Texts


def plan_page(drawing: Drawing) -> Plan:
    """A sheet as large as it needs to be."""
    sizes, side = _sizes(drawing), _side(drawing)
    widest = max(least_width(drawing), WIDEST[len(sizes)])
    frame = _frame(len(sizes))
    cells, panels = _fit(sizes, _least(drawing, side), widest - frame, TALLEST[len(sizes)], side)
    signal = drawing.scene.grid.axes == 1
    width = widest if signal else max(sum(cells) + frame, NARROWEST)
    return _plan(drawing, width, cells, panels, max(LOWEST, *(h for _, h in panels)))


def plan_within(drawing: Drawing, width: float, height: float) -> Plan:
    """A sheet of a given size, at least `least_width` and `SHORTEST`."""
    sizes, side = _sizes(drawing), _side(drawing)
    around = _plan(drawing, width, (), (), 0.0).height
    row = max(height - around, 0.3)
    room = width - _frame(len(sizes))
    cells, panels = _fit(sizes, _least(drawing, side), room, row, side)
    return _plan(drawing, width, cells, panels, row)


def least_width(drawing: Drawing) -> float:
    """The width that the captions need side by side."""
    least = _least(drawing, _side(drawing))
    return max(NARROWEST, sum(least) + _frame(len(least)))


def _plan(
    drawing: Drawing,
    width: float,
    cells: tuple[float, ...],
    panels: tuple[tuple[float, float], ...],
    row: float,
) -> Plan:
    side = _side(drawing)
    texts = said(drawing, drawing.planes).set(width)
    top = MARGIN + texts.head + 0.16 + line_height(CAPTION) + side
    bottom = side + 0.12 + len(texts.foot) * line_height(FOOT) + MARGIN
    if drawing.scene.grid.axes == 1:
        panels = tuple((wide, row) for wide, _ in panels)
    return Plan(width, top + row + bottom, cells, panels, side, top, row, texts)


def _frame(panels: int) -> float:
    """The width of a sheet without its panels."""
    return 2 * MARGIN + BAR + (panels - 1) * GUTTER


def _side(drawing: Drawing) -> float:
    return SIDE if drawing.scene.grid.known or drawing.scene.grid.axes == 1 else PLAIN


def _sizes(drawing: Drawing) -> list[tuple[float, float]]:
    if drawing.scene.grid.axes == 1:
        return [(1.0, 0.3)]
    return [drawing.scene.grid.size(plane) for plane in drawing.planes]


def captions(drawing: Drawing) -> list[tuple[str, str]]:
    """Name and position of each panel."""
    grid, focus = drawing.scene.grid, drawing.focus
    if grid.axes == 1:
        count = drawing.scene.image.shape[-1]
        return [("SIGNAL", f"{grid.shape[0]} samples" + f", {count} channels" * (count > 1))]
    return [words.caption(plane, focus, grid) for plane in drawing.planes]


def _least(drawing: Drawing, side: float) -> list[float]:
    """The least width of each panel's column: that of its caption."""
    return [
        measure(name, CAPTION, bold=True) + measure(position, CAPTION) + 0.2 + side
        for name, position in captions(drawing)
    ]


def _fit(
    sizes: Sequence[tuple[float, float]],
    least: Sequence[float],
    room: float,
    tallest: float,
    side: float,
) -> tuple[tuple[float, ...], tuple[tuple[float, float], ...]]:
    """Columns and panels at one scale for all planes, no column narrower than its caption."""
    widths = np.array([w for w, _ in sizes])
    low, high = 0.0, tallest / max(h for _, h in sizes)
    scale = high
    for _ in range(30):  # halving
        fits = np.maximum(widths * scale + 2 * side, least).sum() <= room
        low, high = (scale, high) if fits else (low, scale)
        if low == high:
            break
        scale = (low + high) / 2
    panels = tuple((w * scale, h * scale) for w, h in sizes)
    cells = tuple(max(w + 2 * side, a) for (w, _), a in zip(panels, least, strict=True))
    return cells, panels


def said(drawing: Drawing, planes: Sequence[Plane]) -> Said:
    """What a drawing needs said, when these of its planes are shown."""
    scene = drawing.scene
    shown = () if scene.grid.axes == 1 else tuple(planes)
    return Said(
        drawing.title,
        words.convention(scene.grid, shown, drawing.radiological),
        words.heading(scene),
        (*statements(drawing), setting(drawing)),
        scene.notes,
        has_unseen(drawing),
    )


def statements(drawing: Drawing) -> list[str]:
    """What there is to say about the map: its peak, and where its colours end."""
    shade = drawing.shade
    lines = [words.EMPTY[0].upper() + words.EMPTY[1:]] if shade.empty else []
    lines.append(words.peak(drawing.scene, drawing.focus))
    beyond = "stronger values are drawn in the last colour" if shade.clipped else ""
    if shade.scale.words:
        ends = f"Colours {words.span(shade.bottom, shade.top)}: {shade.scale.words}"
        lines.append("; ".join(filter(None, (ends, beyond))))
    elif shade.clipped:
        end = f"±{words.number(shade.top)}" if shade.signed else words.number(shade.top)
        lines.append(f"The colours end at {end}: {beyond}")
    return lines


def setting(drawing: Drawing) -> str:
    """The grey window, the channel, and how the planes lie."""
    scene = drawing.scene
    parts = (drawing.window.words, scene.channel, words.geometry(scene.grid, scene.own))
    return " · ".join(part[0].upper() + part[1:] for part in parts if part)


def has_unseen(drawing: Drawing) -> bool:
    """Whether the network did not see all of the image."""
    return drawing.scene.seen is not None and not drawing.scene.seen.all()
