"""The colour bar: solid colours, ticks in raw values, and the raw range in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medsal.view.page import FAMILY, Box, Page, line_height
from medsal.view.words import MINUS, number, power_of_ten

if TYPE_CHECKING:
    from medsal.view.colour import Shade

WIDTH = 1.6  # inches, with its text
TALLEST = 3.0
STRIP = 0.15  # width of the colours
TEXT, EMPTY = 7.5, 10.0  # points


def draw_bar(page: Page, box: Box, shade: Shade) -> None:
    """The bar in the upper part of the box, the raw range below it."""
    lines, top = _range(shade), box.top
    if shade.empty:
        for line in ("Empty map:", "no positive", "evidence"):
            page.text(box.left, top, line, EMPTY, weight="bold")
            top += line_height(EMPTY)
    else:
        height = min(TALLEST, max(box.height - 0.12 - line_height(TEXT) * len(lines), 0.5))
        _strip(page, Box(box.left, top, STRIP, height), shade)
        top += height
    for k, (line, strong) in enumerate(lines):
        colour = page.ink.text if strong else page.ink.muted
        page.text(box.left, top + 0.14 + k * line_height(TEXT), line, TEXT, color=colour)


def _range(shade: Shade) -> list[tuple[str, bool]]:
    """Lines of text, and whether they stand out."""
    lines = [
        ("raw range", False),
        (f"min {number(shade.low)}", True),
        (f"max {number(shade.high)}", True),
    ]
    if shade.empty:
        return lines
    if shade.threshold > 0:
        lines.append((f"drawn from {number(shade.threshold)}", False))
    if shade.clipped:
        lines.append((f"clipped at {number(shade.top)}", True))
    return lines


def _strip(page: Page, box: Box, shade: Shade) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import MaxNLocator

    axes = page.axes(box)
    extend = ("both" if shade.signed else "max") if shade.clipped else "neither"
    bar: Any = page.figure.colorbar(
        ScalarMappable(shade.norm(), shade.colours()), cax=axes, extend=extend
    )
    power = _power(shade.top)
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(shade.bottom, shade.top)
    inside = [t for t in ticks if shade.bottom - 1e-9 * shade.top <= t <= shade.top * (1 + 1e-9)]
    bar.set_ticks(inside, labels=[_tick(value, power) for value in inside])
    bar.ax.minorticks_off()
    bar.ax.grid(False)
    bar.ax.tick_params(
        labelsize=TEXT * page.zoom,
        colors=page.ink.text,
        length=3,
        width=0.6,
        labelfontfamily=FAMILY,
    )
    bar.outline.set(edgecolor=page.ink.line, linewidth=0.6)
    if shade.threshold > 0:
        for level in (shade.threshold, -shade.threshold)[: 1 + shade.signed]:
            bar.ax.axhline(level, color="white", lw=1.2)
    heading = "saliency" + (f" [{power_of_ten(power)}]" if power else "")
    page.text(box.left, box.top - 0.1 - line_height(TEXT), heading, TEXT, color=page.ink.muted)


def _power(top: float) -> int:
    """The power of ten to take out of the ticks; none for values that read well."""
    power = math.floor(math.log10(top))
    return 0 if -2 <= power <= 3 else power


def _tick(value: float, power: int) -> str:
    return f"{np.round(value / 10.0**power, 6) + 0.0:g}".replace("-", MINUS)
