"""The page: tables, pictures, and sentences that say what the figures say and no more."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.truth import demo, pictures, tables
from tests.benchmarks.truth.figures import bias, interval, mean
from tests.benchmarks.truth.networks import FAMILIES
from tests.benchmarks.truth.placing import MAPS, WAYS, named
from tests.benchmarks.truth.tables import Row
from tests.benchmarks.truth.words import ADVICE, INTRODUCTION, METHODS_TEXT, PLACEMENT_TEXT

ACCURATE = 0.9
#: The columns of the placement's table: head, what is read, how it is averaged, digits.
PLACED = (
    ("bias per axis [mm]", ("x", "y", "z"), bias, 1),
    ("centroid [mm]", ("centroid",), mean, 1),
    ("peak [mm]", ("peak",), mean, 1),
    ("peak in the lesion", ("hit",), mean, 2),
    ("energy in the lesion", ("energy",), mean, 3),
    ("AUPRC", ("auprc",), mean, 3),
)
COMPARED = (
    ("peak [mm]", ("peak",), mean, 1),
    ("centroid [mm]", ("centroid",), mean, 1),
    ("bias x", ("x",), mean, 1),
    ("bias y", ("y",), mean, 1),
    ("bias z", ("z",), mean, 1),
    ("peak in the lesion", ("hit",), mean, 2),
    ("energy in the lesion", ("energy",), mean, 3),
    ("AUPRC", ("auprc",), mean, 3),
    ("best Dice", ("best dice",), mean, 2),
    ("Dice at half", ("dice",), mean, 2),
    ("own class", ("own class",), mean, 2),
    ("insertion", ("insertion",), mean, 2),
    ("deletion", ("deletion",), mean, 2),
    ("like random weights", ("like random weights",), mean, 2),
)


def write(folder: Path) -> None:
    """Write `truth.md`, its pictures and `truth_methods.md` from the tables in the folder."""
    networks, placed, compared = (tables.read(folder / f"{name}.csv") for name in tables.TABLES)
    lopsided = [row for row in placed if "lopsided" in row["network"]]
    straight = [row for row in placed if "lopsided" not in row["network"]]
    advice = which_for_what(compared, placed)
    (folder / "truth_methods.md").write_text(advice)
    pictures.placement(placed, folder / "images" / "truth_placement.png")
    pictures.methods(compared, folder / "images" / "truth_methods.png")
    parts = [
        INTRODUCTION.format(networks=len(networks), used=len(used(networks))),
        networks_table(networks),
        PLACEMENT_TEXT,
        *(placement_section(placed, method, back) for method, back in MAPS),
        claims(straight),
        expectations(straight, "What was expected, and what came"),
        expectations(lopsided, "The same on lopsided scans"),
        default(straight),
        best(straight),
        shifts_table(placed),
        METHODS_TEXT.format(cases=len(cases_of(compared)), networks=_names(compared)),
        methods_table(compared),
        refusals(compared),
        ADVICE,
        advice,
    ]
    (folder / "truth.md").write_text("\n\n".join(part.strip() for part in parts if part) + "\n")


def used(networks: Sequence[Row]) -> list[Row]:
    """The networks that are right often enough."""
    return [row for row in networks if row["accuracy"] >= ACCURATE]


def cases_of(rows: Sequence[Row]) -> set[tuple[str, float]]:
    return {(row["network"], row["case"]) for row in rows if row["case"] >= 0}


def _names(rows: Sequence[Row]) -> str:
    return "; ".join(sorted({row["network"] for row in rows})) or "none yet"


def groups_of(rows: Sequence[Row], columns: Sequence[str]) -> list[NDArray[np.float64]]:
    """Of each network, its cases' numbers in some columns, `(cases, columns)`."""
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        if all(name in row for name in columns):
            found.setdefault(row["network"], []).append([row[name] for name in columns])
    return [np.array(cases) for _, cases in sorted(found.items())]


def cell(
    rows: Sequence[Row],
    columns: Sequence[str],
    statistic: Callable[[NDArray[np.float64]], float],
    digits: int,
) -> str:
    """A mean with its interval, for a table."""
    groups = groups_of(rows, columns)
    if not groups:
        return "-"
    return shown(interval(groups, statistic), digits)


def shown(found: tuple[float, float, float], digits: int) -> str:
    """A number with its interval."""
    middle, low, high = found
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def networks_table(networks: Sequence[Row]) -> str:
    lines = [
        [
            row["network"],
            f"{row['accuracy']:.3f}",
            f"{row['seconds']:.0f}" if row["seconds"] else "-",
            "yes" if row["accuracy"] >= ACCURATE else "no",
        ]
        for row in networks
    ]
    head = ["network", "accuracy", "training [s of one core]", "used for localisation"]
    there = " ".join(row["network"] for row in networks)
    missing = [name for name in FAMILIES if name not in there]
    said = (
        f"\n\nNot measured yet, so nothing here is of them: {', '.join(missing)}."
        if missing
        else ""
    )
    return table(head, lines) + said


def of_map(placed: Sequence[Row], name: str, way: str) -> list[Row]:
    return [row for row in placed if row["map"] == name and row.get("way") == way]


def kinds_of_training(placed: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows by how the networks were trained."""
    return {
        "trained with flips": [r for r in placed if ", flips" in r["network"]],
        "trained without flips": [
            r for r in placed if "no flips" in r["network"] and "lopsided" not in r["network"]
        ],
        "medsal's demo network": [r for r in placed if r["network"] == demo.NAME],
        "medsal's demo network, lopsided scans": [
            r for r in placed if r["network"].startswith(demo.NAME) and "lopsided" in r["network"]
        ],
        "lopsided scans, no flips": [r for r in placed if "lopsided, seed" in r["network"]],
    }


def placement_section(placed: Sequence[Row], method: str, back: int) -> str:
    """One map's table: each way over all networks, then by training."""
    name = named(method, back)
    straight = [row for row in placed if "lopsided" not in row["network"]]
    lines = [
        [way, *(cell(of_map(straight, name, way), *each[1:]) for each in PLACED)] for way in WAYS
    ]
    parts = [
        f"### `{method}` at layer {back}",
        table(["placed by", *(c[0] for c in PLACED)], lines),
    ]
    lines = []
    for kind, rows in kinds_of_training(placed).items():
        count = len({row["network"] for row in of_map(rows, name, WAYS[0])})
        if count:
            centroids = [cell(of_map(rows, name, way), ("centroid",), mean, 1) for way in WAYS]
            lines.append([f"{kind} ({count})", *centroids])
    parts.append(table(["centroid error [mm]; networks", *WAYS], lines))
    return "\n\n".join(parts)


def gain(
    placed: Sequence[Row], name: str, way: str, column: str, beside: tuple[str, str] | None = None
) -> list[NDArray[np.float64]]:
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
    return groups_of(rows, ["gain"])


#: What earlier measurements let one expect: which map and way is better, than which.
EXPECTED = (
    ("`Mirrored` in 2 passes places Grad-CAM better", 0, WAYS[3], 0, WAYS[0]),
    ("`Mirrored` in 8 passes places it better than in 2", 0, WAYS[4], 0, WAYS[3]),
    ("a calibrated shift places it better", 0, WAYS[2], 0, WAYS[0]),
    ("the theory's shift places it worse", 0, WAYS[0], 0, WAYS[1]),
    ("HiResCAM at a finer layer in 8 passes beats Grad-CAM in one", 2, WAYS[4], 0, WAYS[0]),
    ("LayerCAM at a finer layer in 8 passes beats Grad-CAM in one", 3, WAYS[4], 0, WAYS[0]),
)


def expectations(placed: Sequence[Row], title: str) -> str:
    """What was expected, and whether these figures say so."""
    lines = []
    for said, which, way, other, beside in EXPECTED:
        line = [said]
        for column, digits in (("centroid", 1), ("auprc", 3)):
            names = named(*MAPS[which]), named(*MAPS[other])
            groups = gain(placed, names[0], way, column, (names[1], beside))
            if not groups:
                return ""
            middle, low, high = interval(groups)
            held = {"helps": "yes", "harms": "no, the contrary"}.get(verdict(low, high), "not told")
            line.append(f"{held}: {middle:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})")
        lines.append(line)
    head = ["expected", "nearer by the centroid [mm]", "higher AUPRC"]
    return f"### {title}\n\n" + table(head, lines)


def default(placed: Sequence[Row]) -> str:
    """What the default should be, by a rule that is written here."""
    last = named(*MAPS[0])
    verdicts = {}
    for way in WAYS[1:]:
        groups = [gain(placed, last, way, column) for column in ("centroid", "auprc")]
        if not all(groups):
            return ""
        both = {verdict(*interval(each)[1:]) for each in groups}
        verdicts[way] = "helps" if both == {"helps"} else "harms" if "harms" in both else "open"
    shifts = [way for way in WAYS[1:3] if verdicts[way] == "helps"]
    mirrors = [way for way in WAYS[3:] if verdicts[way] == "helps"]
    one = f"shifted as {' or '.join(shifts)}" if shifts else "trilinear, not shifted"
    many = f"*{mirrors[0]}*" if mirrors else "none that these figures tell to be better"
    return (
        f"### The default\n\nThe rule: a way becomes the default of its number of passes where, "
        f"for `{last}`, it helps by the centroid and by the AUPRC. By these figures: in one pass "
        f"{one}; with more passes {many}. One pass stays what `medsal.explain` does when it is not "
        f"asked for more."
    )


def claims(placed: Sequence[Row]) -> str:
    """What each way gains on trilinear placement, case by case, and in how many networks."""
    lines = []
    for method, back in MAPS:
        for way in WAYS[1:]:
            line = [f"`{method}` at {back}", way]
            for column, digits in (("centroid", 1), ("auprc", 3)):
                groups = gain(placed, named(method, back), way, column)
                if not groups:
                    line += ["-", "-", "-"]
                    continue
                middle, low, high = interval(groups)
                better = sum(each.mean() > 0 for each in groups)
                line += [
                    f"{middle:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})",
                    f"{better} of {len(groups)}",
                    verdict(low, high),
                ]
            lines.append(line)
    head = ["map", "placed by"]
    for what in ("centroid nearer by [mm]", "AUPRC higher by"):
        head += [what, "better in", "so it"]
    text = (
        "## Where it helps and where it does not\n\nAgainst trilinear placement of the same map, "
    )
    return text + "case by case:\n\n" + table(head, lines)


def verdict(low: float, high: float) -> str:
    """What an interval of a gain says."""
    if low > 0:
        return "helps"
    return "harms" if high < 0 else "can't be told"


def best(placed: Sequence[Row]) -> str:
    """What came out first, with one pass of the network and with any number."""
    lines = []
    for passes, ways in (("one pass", WAYS[:3]), ("up to 2 passes", WAYS[:4]), ("any", WAYS)):
        line = [passes]
        for column, first, digits in (("centroid", min, 1), ("auprc", max, 3)):
            found = {
                (name, way): interval(groups)
                for name in (named(*each) for each in MAPS)
                for way in ways
                if (groups := groups_of(of_map(placed, name, way), [column]))
            }
            if not found:
                return ""
            name, way = first(found, key=lambda key: found[key][0])
            line.append(f"`{name}`, {way}: {shown(found[name, way], digits)}")
        lines.append(line)
    head = ["passes of the network", "smallest centroid error [mm]", "largest AUPRC"]
    return "### What came out first\n\n" + table(head, lines)


def shifts_table(placed: Sequence[Row]) -> str:
    """The calibrated shifts of the last layer, beside the theory's."""
    lines = [
        [
            row["network"],
            row.get("shift", "-"),
            row.get("uncertainty", "-"),
            f"{row['agreement']:.2f}" if "agreement" in row else "-",
            row.get("refused", ""),
        ]
        for row in placed
        if row["case"] < 0 and row["map"] == named(*MAPS[0])
    ]
    head = ["network", "shift [voxels]", "standard error", "mirrored seen alike", "refused"]
    return "### The calibrated shifts of the last layer\n\n" + table(head, lines)


def methods_table(compared: Sequence[Row]) -> str:
    lines = []
    for name in dict.fromkeys(row["method"] for row in compared):
        rows = [row for row in compared if row["method"] == name]
        if any("peak" in row for row in rows):
            lines.append([name, *(cell(rows, *each[1:]) for each in COMPARED)])
    return table(["method", *(each[0] for each in COMPARED)], lines)


def refusals(compared: Sequence[Row]) -> str:
    """What raised instead of making a map."""
    found = sorted({(r["method"], r["network"], r["raises"]) for r in compared if "raises" in r})
    lines = [f"- {method}, on {network}: `{what}`" for method, network, what in found]
    return "MONAI's own that made no map:\n\n" + "\n".join(lines) if lines else ""


def which_for_what(compared: Sequence[Row], placed: Sequence[Row]) -> str:
    """For each aim, medsal's methods that came first and second, with what they reached."""
    rows = [row for row in compared if row["kind"] == "medsal"]
    names = list(dict.fromkeys(row["method"] for row in rows))
    lines = []
    for aim, column, best, digits in (
        ("the map's peak near the lesion [mm]", "peak", min, 1),
        ("the map's middle near the lesion [mm]", "centroid", min, 1),
        ("the lesion's voxels ranked first (AUPRC)", "auprc", max, 3),
        ("the lesion's outline at half of the peak (Dice)", "dice", max, 2),
        ("this class and not the other (share in the own lesion)", "own class", max, 2),
        ("what raises the score (insertion)", "insertion", max, 2),
        ("what lowers the score (deletion)", "deletion", min, 2),
        ("least like the map of random weights", "like random weights", min, 2),
    ):
        groups = {n: groups_of([r for r in rows if r["method"] == n], [column]) for n in names}
        means = {n: interval(each) for n, each in groups.items() if each}
        ranked = sorted(means, key=lambda n: means[n][0], reverse=best is max)
        if ranked:
            said = [f"`{n}` {shown(means[n], digits)}" for n in (*ranked[:3], ranked[-1])]
            lines.append([aim, *said])
    return table(["you want", "first", "second", "third", "last"], lines) + "\n"
