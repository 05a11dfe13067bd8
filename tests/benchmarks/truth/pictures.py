"""Two plots: where maps lie by each way of placing, and how the methods compare."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.benchmarks.truth.figures import interval
from tests.benchmarks.truth.placing import MAPS, WAYS, named
from tests.benchmarks.truth.tables import Row

INK, PALE = "#1f4e79", "#9db8d2"


def placement(placed: Sequence[Row], path: Path) -> None:
    """The centroid error by each way: a line for each network, their mean with its interval."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, len(MAPS), sharey=True, squeeze=False)[0]
    for axis, (method, back) in zip(axes, MAPS, strict=True):
        rows = [row for row in placed if row["map"] == named(method, back) and "way" in row]
        for net in sorted({row["network"] for row in rows}):
            means = [_mean(rows, net, way) for way in WAYS]
            axis.plot(range(len(WAYS)), means, color=PALE, linewidth=1, marker=".", markersize=4)
        for i, way in enumerate(WAYS):
            groups = _groups([row for row in rows if row["way"] == way], "centroid")
            if groups:
                _bar(axis, i, interval(groups))
        axis.set_title(named(method, back), fontsize=9)
        axis.set_xticks(range(len(WAYS)), WAYS, rotation=35, ha="right", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("centroid to lesion [mm]")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def methods(compared: Sequence[Row], path: Path) -> None:
    """AUPRC, distance of the peak, and class discrimination of every contender."""
    names = list(dict.fromkeys(row["method"] for row in compared if "peak" in row))
    figure = Figure(figsize=(11, 0.24 * len(names) + 1.2), layout="constrained")
    columns = (
        ("auprc", "AUPRC"),
        ("peak", "peak to lesion [mm]"),
        ("own class", "own class (0.5 = none)"),
    )
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axis, (column, title) in zip(axes, columns, strict=True):
        for i, name in enumerate(names):
            groups = _groups([row for row in compared if row["method"] == name], column)
            if groups:
                _bar(axis, i, interval(groups), across=True)
        axis.set_title(title, fontsize=9)
        axis.grid(axis="y", color="#eeeeee")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def _bar(axis: Axes, at: float, found: tuple[float, float, float], across: bool = False) -> None:
    middle, low, high = found
    spread = [[max(middle - low, 0)], [max(high - middle, 0)]]
    style = {"color": INK, "fmt": "o", "markersize": 4, "capsize": 2}
    if across:
        axis.errorbar([middle], [at], xerr=spread, **style)
    else:
        axis.errorbar([at], [middle], yerr=spread, **style)


def _groups(rows: Sequence[Row], column: str) -> list[np.ndarray]:
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        if column in row:
            found.setdefault(row["network"], []).append([row[column]])
    return [np.array(each) for each in found.values()]


def _mean(rows: Sequence[Row], net: str, way: str) -> float:
    values = [r["centroid"] for r in rows if r["network"] == net and r["way"] == way]
    return float(np.mean(values)) if values else float("nan")
