"""What the page's tables are read with: groups of networks, means with intervals, verdicts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.truth import demo
from tests.benchmarks.truth.figures import Statistic, interval
from tests.benchmarks.truth.placing import WAYS
from tests.benchmarks.truth.tables import Row

Cases = NDArray[np.float64]


def is_monai(row: Row) -> bool:
    """Whether a row is of one of MONAI's networks, on scans whose sides are alike."""
    return not row["network"].startswith(demo.NAME) and "lopsided" not in row["network"]


def kinds(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by how the networks were trained and what they see; those that there are."""
    of_demo = [row for row in rows if row["network"].startswith(demo.NAME)]
    others = [row for row in rows if not row["network"].startswith(demo.NAME)]
    found = {
        "trained with flips": [r for r in others if is_monai(r) and "no flips" not in r["network"]],
        "without flips": [r for r in others if is_monai(r) and "no flips" in r["network"]],
        "without flips, lopsided": [r for r in others if not is_monai(r)],
        demo.NAME: [r for r in of_demo if "lopsided" not in r["network"]],
        f"{demo.NAME}, lopsided": [r for r in of_demo if "lopsided" in r["network"]],
    }
    return {name: those for name, those in found.items() if those}


def groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by architecture and training; what is left of a group are its seeds."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["network"].partition(", seed")[0], []).append(row)
    return dict(sorted(found.items()))


def networks_in(rows: Sequence[Row]) -> int:
    return len({row["network"] for row in rows})


def cases_of(rows: Sequence[Row]) -> set[tuple[str, float]]:
    return {(row["network"], row["case"]) for row in rows if row["case"] >= 0}


def of_map(placed: Sequence[Row], name: str, way: str) -> list[Row]:
    return [row for row in placed if row["map"] == name and row.get("way") == way]


def by_network(rows: Sequence[Row], columns: Sequence[str]) -> list[Cases]:
    """Of each network, its cases' numbers in some columns, `(cases, columns)`."""
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        if all(name in row for name in columns):
            found.setdefault(row["network"], []).append([row[name] for name in columns])
    return [np.array(cases) for _, cases in sorted(found.items())]


def gain(
    placed: Sequence[Row], name: str, way: str, column: str, beside: tuple[str, str] | None = None
) -> list[Cases]:
    """Of each network, what a map gains on another one, case by case; positive = better.

    Args:
        placed: the rows.
        name: the map.
        way: how it is placed.
        column: the centroid or the AUPRC.
        beside: the other map and its way; None = the same one, trilinear.
    """
    before = {
        (r["network"], r["case"]): r[column] for r in of_map(placed, *(beside or (name, WAYS[0])))
    }
    sign = 1 if column == "auprc" else -1
    rows = [
        {"network": r["network"], "gain": sign * (r[column] - before[r["network"], r["case"]])}
        for r in of_map(placed, name, way)
        if (r["network"], r["case"]) in before
    ]
    return by_network(rows, ["gain"])


def verdict(found: tuple[float, float, float], least: float) -> str:
    """What a gain with its interval says; one that is smaller than `least` is of no use."""
    middle, low, high = found
    if low <= 0 <= high or abs(middle) < least:
        return "can't be told"
    return "helps" if middle > 0 else "harms"


def cell(rows: Sequence[Row], columns: Sequence[str], statistic: Statistic, digits: int) -> str:
    """A mean with its interval, for a table."""
    found = by_network(rows, columns)
    return shown(interval(found, statistic), digits) if found else "-"


def shown(found: tuple[float, float, float], digits: int, sign: str = "") -> str:
    """A number with its interval; `sign` is "+" for a gain."""
    middle, low, high = (f"{each:{sign}.{digits}f}" for each in found)
    return f"{middle} ({low} to {high})"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
