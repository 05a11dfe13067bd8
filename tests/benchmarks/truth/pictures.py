"""Two plots: where maps lie by each way of placing, and how the methods compare."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tests.benchmarks.truth import demo
from tests.benchmarks.truth.figures import interval
from tests.benchmarks.truth.placing import MAPS, WAYS, named
from tests.benchmarks.truth.reading import by_network, is_monai, kinds
from tests.benchmarks.truth.tables import Row
from tests.benchmarks.truth.which import titled

INK, PALE, WARM, GREEN = "#1f4e79", "#9db8d2", "#d98032", "#4d8b57"


def placement(placed: Sequence[Row], path: Path) -> None:
    """The centroid error by each way: a line for each network, MONAI's mean with its interval."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    axes = figure.subplots(1, len(MAPS), sharey=True, squeeze=False)[0]
    for axis, each in zip(axes, MAPS, strict=True):
        rows = [row for row in placed if row["map"] == named(*each) and "way" in row]
        for net in sorted({row["network"] for row in rows}):
            means = [_mean(rows, net, way) for way in WAYS]
            colour = WARM if net.startswith(demo.NAME) else PALE
            style = "--" if "lopsided" in net else "-"
            axis.plot(range(len(WAYS)), means, style, color=colour, linewidth=1)
        for i, way in enumerate(WAYS):
            cases = by_network([r for r in rows if r["way"] == way and is_monai(r)], ["centroid"])
            if cases:
                _bar(axis, i, interval(cases))
        axis.set_title(named(*each), fontsize=9)
        axis.set_xticks(range(len(WAYS)), WAYS, rotation=35, ha="right", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("centroid to lesion [mm]")
    lines = [
        Line2D([], [], color=PALE, label="one of MONAI's networks"),
        Line2D([], [], color=WARM, label=demo.NAME),
        Line2D([], [], color="grey", linestyle="--", label="lopsided scans"),
        Line2D([], [], color=INK, marker="o", label="MONAI's networks, mean and 95 % interval"),
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def methods(compared: Sequence[Row], path: Path) -> None:
    """AUPRC, distance of the peak, and class discrimination of every contender, by kind."""
    names = list(dict.fromkeys(row["method"] for row in compared if "peak" in row))
    figure = Figure(figsize=(11, 0.26 * len(names) + 1.4), layout="constrained")
    columns = (
        ("auprc", "AUPRC"),
        ("peak", "peak to lesion [mm]"),
        ("own class", "own class (0.5 = none)"),
    )
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    shown = list(zip(kinds(compared).items(), (INK, WARM, GREEN, "grey"), strict=False))
    for axis, (column, title) in zip(axes, columns, strict=True):
        for k, ((_, rows), colour) in enumerate(shown):
            for i, name in enumerate(names):
                cases = by_network([row for row in rows if row["method"] == name], [column])
                if cases:
                    at = i + 0.3 * (k - (len(shown) - 1) / 2)
                    _bar(axis, at, interval(cases), colour, across=True)
        axis.set_title(title, fontsize=9)
        axis.grid(axis="y", color="#eeeeee")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    lines = [Line2D([], [], color=colour, marker="o", label=titled(k)) for (k, _), colour in shown]
    figure.legend(handles=lines, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def _bar(
    axis: Axes,
    at: float,
    found: tuple[float, float, float],
    colour: str = INK,
    across: bool = False,
) -> None:
    middle, low, high = found
    spread = [[max(middle - low, 0)], [max(high - middle, 0)]]
    style = {"color": colour, "fmt": "o", "markersize": 4, "capsize": 2}
    if across:
        axis.errorbar([middle], [at], xerr=spread, **style)
    else:
        axis.errorbar([at], [middle], yerr=spread, **style)


def _mean(rows: Sequence[Row], net: str, way: str) -> float:
    values = [r["centroid"] for r in rows if r["network"] == net and r["way"] == way]
    return float(np.mean(values)) if values else float("nan")
