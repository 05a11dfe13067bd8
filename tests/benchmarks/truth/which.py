"""The page's part on all methods: their tables, what made no map, and which is for what."""

from collections.abc import Callable, Sequence
from typing import Any

from tests.benchmarks.truth.figures import interval, mean
from tests.benchmarks.truth.reading import (
    by_network,
    cases_of,
    cell,
    kinds,
    networks_in,
    shown,
    table,
)
from tests.benchmarks.truth.tables import Row

#: The columns of the table: head, what is read, digits.
COMPARED = (
    ("peak [mm]", "peak", 1),
    ("centroid [mm]", "centroid", 1),
    ("bias x", "x", 1),
    ("bias y", "y", 1),
    ("bias z", "z", 1),
    ("peak in the lesion", "hit", 2),
    ("energy in the lesion", "energy", 3),
    ("AUPRC", "auprc", 3),
    ("best Dice", "best dice", 2),
    ("Dice at half", "dice", 2),
    ("own class", "own class", 2),
    ("insertion", "insertion", 2),
    ("deletion", "deletion", 2),
    ("like random weights", "like random weights", 2),
)
#: What one wants, the column that says it, which of its values is best, digits.
AIMS: tuple[tuple[str, str, Callable[..., Any], int], ...] = (
    ("the map's peak near the lesion [mm]", "peak", min, 1),
    ("the map's middle near the lesion [mm]", "centroid", min, 1),
    ("the lesion's voxels ranked first (AUPRC)", "auprc", max, 3),
    ("the lesion's outline at half of the peak (Dice)", "dice", max, 2),
    ("this class and not the other (share in the own lesion)", "own class", max, 2),
    ("what raises the score (insertion)", "insertion", max, 2),
    ("what lowers the score (deletion)", "deletion", min, 2),
    ("least like the map of random weights", "like random weights", min, 2),
)
Means = dict[str, tuple[float, float, float]]


def of_whom(rows: Sequence[Row]) -> str:
    """What a table is of: lesions and networks."""
    names = "; ".join(sorted({row["network"] for row in rows}))
    return f"{len(cases_of(rows))} lesions, each in one of {networks_in(rows)} networks: {names}."


def methods_tables(compared: Sequence[Row]) -> str:
    """A table for each kind of network."""
    parts = []
    for kind, rows in kinds(compared).items():
        lines = []
        for name in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if row["method"] == name]
            if any("peak" in row for row in own):
                lines.append([name, *(cell(own, (c,), mean, n) for _, c, n in COMPARED)])
        head = ["method", *(each[0] for each in COMPARED)]
        parts += [f"### {titled(kind)}", of_whom(rows), table(head, lines)]
    return "\n\n".join(parts)


def titled(kind: str) -> str:
    """The heading of a kind of network."""
    return kind if "demo" in kind else f"MONAI's networks, {kind}"


def refusals(compared: Sequence[Row]) -> str:
    """What raised instead of making a map."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in compared:
        if "raises" in row:
            found.setdefault((row["method"], row["raises"]), set()).add(row["network"])
    lines = [f"- {m}, on {'; '.join(sorted(n))}: `{e}`" for (m, e), n in sorted(found.items())]
    return "MONAI's own that made no map:\n\n" + "\n".join(lines) if lines else ""


def means_of(rows: Sequence[Row], column: str) -> Means:
    """What each method reached in a column."""
    found = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        cases = by_network([row for row in rows if row["method"] == name], [column])
        if cases:
            found[name] = interval(cases)
    return found


def which_for_what(compared: Sequence[Row]) -> str:
    """For each aim and kind of network, medsal's methods that came first and last.

    Beside them stands the better of the maps that know nothing of the network.
    """
    lines = []
    for aim, column, best, digits in AIMS:
        for kind, rows in kinds(compared).items():
            means = means_of([row for row in rows if row["kind"] == "medsal"], column)
            ranked = sorted(means, key=lambda n: means[n][0], reverse=best is max)
            if ranked:
                said = [f"`{n}` {shown(means[n], digits)}" for n in (*ranked[:3], ranked[-1])]
                lines.append([aim, titled(kind), *said, nothing(rows, column, best, digits)])
    head = ["you want", "measured on", "first", "second", "third", "last", "knows nothing"]
    return table(head, lines) + "\n"


def nothing(rows: Sequence[Row], column: str, best: Callable[..., Any], digits: int) -> str:
    """The better of the maps that know nothing of the network."""
    if column == "like random weights":
        return "-"  # they are the same map, whatever the weights
    means = means_of([row for row in rows if row["kind"] == "knows nothing"], column)
    if not means:
        return "-"
    name = best(means, key=lambda n: means[n][0])
    return f"{name} {shown(means[name], digits)}"
