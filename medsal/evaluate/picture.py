"""The figure of a check: maps of what the network became, of another class, and the curves."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from medsal.evaluate.finding import LARGE, SMALL
from medsal.view.look import choose_plane, draw
from medsal.view.page import TYPE, Box, Page, line_height, new_page, wrap
from medsal.view.panel import Drawing, draw_plane, draw_signal
from medsal.view.words import RESEARCH, class_name, explained, named

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure

    from medsal.evaluate.check import Check
    from medsal.types import Map

WIDTH, MARGIN, GAP = 12.5, 0.35, 0.12
TITLE, TEXT, SMALLER = 15.0, 9.5, 8.0
CHART, LEGEND = 2.5, 0.75
COLOURS = {"passed": "#7bc67e", "partly": "#f2c14e", "failed": "#ef6f6c", "undecided": "#a3a9b0"}
LINES = ("#4dd0c4", "#f2c14e", "#9d8df1")


def picture(check: Check) -> matplotlib.figure.Figure:
    """The figure; it belongs to no pyplot state."""
    tiles = _tiles(check)
    cell = (WIDTH - 2 * MARGIN - (len(tiles) - 1) * GAP) / len(tiles)
    drawing = tiles[0][1]
    across, high = _shape(drawing)
    panel = cell * high / across
    answers = _answers(check)
    text = sum(len(lines) for _, lines in answers) * line_height(TEXT) + 0.08 * len(answers)
    top = MARGIN + line_height(TITLE) + line_height(TEXT) + 0.45
    charts = top + panel + 0.55
    below = charts + CHART + LEGEND
    page = new_page(WIDTH, below + text + line_height(SMALLER) + MARGIN, dark=True)
    _head(page, check)
    for i, (name, each) in enumerate(tiles):
        left = MARGIN + i * (cell + GAP)
        page.text(left, top - line_height(SMALLER) - 0.04, name, SMALLER)
        _map(page.axes(Box(left, top, cell, panel)), each)
    half = (WIDTH - 2 * MARGIN - 0.9) / 2
    _likeness(_chart(page, MARGIN + 0.5, charts, half - 0.1), check)
    _curves(_chart(page, MARGIN + half + 1.0, charts, half - 0.1), check)
    _said(page, answers, below)
    return page.figure  # type: ignore[return-value]


def _tiles(check: Check) -> list[tuple[str, Drawing]]:
    """The map, what it became, and the most similar one of another class, on one slice."""
    steps = len(check.cascade.maps)
    shown: list[tuple[str, Map]] = [("the network as it is", check.result.data)]
    shown += [
        (f"{(i + 1) / steps:.0%} of layers random", each)
        for i, each in enumerate(check.cascade.maps)
    ]
    if check.others is not None and check.others.maps:
        index = check.others.rank.index(max(check.others.rank))
        number = check.others.classes[index]
        name = class_name(number, check.classes)
        shown.append((f"for {name} instead", check.others.maps[index]))
    first = draw(check.result)
    drawn = []
    for name, saliency in shown:
        one = draw(dataclasses.replace(check.result, data=saliency), crosshair=False)
        drawn.append((name, dataclasses.replace(one, focus=first.focus)))
    return drawn


def _shape(drawing: Drawing) -> tuple[float, float]:
    if drawing.scene.grid.axes == 1:
        return 3.0, 1.6
    plane = choose_plane(drawing.scene.grid, None, True)
    return drawing.scene.grid.size(plane)


def _map(axes: matplotlib.axes.Axes, drawing: Drawing) -> None:
    if drawing.scene.grid.axes == 1:
        draw_signal(axes, drawing)
        axes.set_xticks([])
        return
    draw_plane(axes, drawing, choose_plane(drawing.scene.grid, None, True))


def _head(page: Page, check: Check) -> None:
    outcomes = [each.outcome for each in check.findings]
    counted = [f"{outcomes.count(each)} {each}" for each in COLOURS if each in outcomes]
    title = f"Check of {named(check.result.method)}: {', '.join(counted)}"
    page.text(MARGIN, MARGIN, title, TITLE, weight="bold")
    target = explained(check.result.targets[0], check.classes)
    said = f"Of {target} · {check.result.model.name} · each map up to its own largest value"
    page.text(MARGIN, MARGIN + line_height(TITLE), said, TEXT, color=page.ink.muted)


def _chart(page: Page, left: float, top: float, width: float) -> matplotlib.axes.Axes:
    axes = page.axes(Box(left, top, width, CHART))
    axes.set_facecolor(page.ink.ground)
    axes.tick_params(colors=page.ink.muted, labelsize=SMALLER, labelfontfamily=TYPE["family"])
    for spine in axes.spines.values():
        spine.set_color(page.ink.line)
    return axes


def _likeness(axes: matplotlib.axes.Axes, check: Check) -> None:
    steps = len(check.cascade.layers)
    shares = [i / steps for i in range(steps + 1)]
    found = check.cascade.similarity
    names = ("rank correlation", "of magnitudes", "SSIM")
    for name, values, colour in zip(names, found.values, LINES, strict=True):
        axes.plot(shares, [1.0, *values.mean(0).tolist()], "o-", color=colour, label=name, lw=1.6)
    bound = max([SMALL, *(each.chance or 0 for each in check.findings[:1])])
    axes.axhspan(-1, bound, color=COLOURS["passed"], alpha=0.14, lw=0)
    axes.axhspan(LARGE, 1.05, color=COLOURS["failed"], alpha=0.14, lw=0)
    low = min(-0.1, float(min(each.min() for each in found.values)) - 0.05)
    axes.set(xlim=(-0.02, 1.02), ylim=(low, 1.05))
    _titled(
        axes,
        "Likeness to the map of the network as it is",
        "share of layers with random weights, output first",
    )


def _curves(axes: matplotlib.axes.Axes, check: Check) -> None:
    for curve, colour, name in (
        (check.faith.deletion, LINES[0], "taken away, most relevant first (low is good)"),
        (check.faith.insertion, LINES[1], "put back, most relevant first (high is good)"),
    ):
        scores = curve.scores[0].tolist()
        axes.plot(curve.fractions.tolist(), scores, "o-", color=colour, label=name, lw=1.6)
    axes.set_xlim(-0.02, 1.02)
    _titled(axes, "The target while the image is handed over", "share of the image")


def _titled(axes: matplotlib.axes.Axes, title: str, along: str) -> None:
    style: dict[str, Any] = {"color": "#f1f3f4", "fontsize": TEXT, **TYPE}
    axes.set_title(title, loc="left", **style)
    axes.set_xlabel(along, **{**style, "color": "#a3a9b0", "fontsize": SMALLER})
    legend = axes.legend(fontsize=SMALLER, facecolor="black", edgecolor="#3c4043", framealpha=0.6)
    for text in legend.get_texts():
        text.set_color("#f1f3f4")


def _answers(check: Check) -> list[tuple[str, list[str]]]:
    """The outcome and the lines of each finding."""
    width = WIDTH - 2 * MARGIN - 1.0
    return [
        (each.outcome, wrap(f"{each.name.capitalize()}. {each.words}", width, TEXT))
        for each in check.findings
    ]


def _said(page: Page, answers: list[tuple[str, list[str]]], top: float) -> None:
    for outcome, lines in answers:
        page.text(MARGIN, top, outcome, TEXT, color=COLOURS[outcome], weight="bold")
        for line in lines:
            page.text(MARGIN + 1.0, top, line, TEXT)
            top += line_height(TEXT)
        top += 0.08
    page.text(WIDTH - MARGIN, top, RESEARCH, SMALLER, ha="right", color=page.ink.muted)
