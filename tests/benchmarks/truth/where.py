"""The page on where coarse maps lie: tables, what was expected, what the default should be."""

from collections.abc import Sequence

from tests.benchmarks.truth.figures import bias, interval, mean
from tests.benchmarks.truth.placing import MAPS, WAYS, named
from tests.benchmarks.truth.reading import (
    by_network,
    cell,
    gain,
    groups,
    is_monai,
    kinds,
    networks_in,
    of_map,
    shown,
    table,
    verdict,
)
from tests.benchmarks.truth.tables import Row

#: The columns of a map's table: head, what is read, how it is averaged, digits.
PLACED = (
    ("bias per axis [mm]", ("x", "y", "z"), bias, 1),
    ("centroid [mm]", ("centroid",), mean, 1),
    ("peak [mm]", ("peak",), mean, 1),
    ("peak in the lesion", ("hit",), mean, 2),
    ("energy in the lesion", ("energy",), mean, 3),
    ("AUPRC", ("auprc",), mean, 3),
)
#: By what a way of placing is judged: the column, its name, digits.
JUDGED = (("centroid", "centroid nearer by [mm]", 1), ("auprc", "AUPRC higher by", 3))
NAMES = tuple(named(*each) for each in MAPS)
LAST, STRIDE_16, HIRES, LAYER = NAMES[0], NAMES[1], NAMES[3], NAMES[4]
#: What earlier measurements let one expect: which map and way is better, than which.
EXPECTED = (
    ("2 mirrored passes place Grad-CAM at -1 better", LAST, WAYS[3], LAST, WAYS[0]),
    ("2 mirrored passes place Grad-CAM at -2 better", STRIDE_16, WAYS[3], STRIDE_16, WAYS[0]),
    (
        "8 mirrored passes place Grad-CAM at -2 better than 2",
        STRIDE_16,
        WAYS[4],
        STRIDE_16,
        WAYS[3],
    ),
    ("a calibrated shift places Grad-CAM at -1 better", LAST, WAYS[2], LAST, WAYS[0]),
    ("a calibrated shift places Grad-CAM at -2 better", STRIDE_16, WAYS[2], STRIDE_16, WAYS[0]),
    ("2 mirrored passes place it better than that shift", STRIDE_16, WAYS[3], STRIDE_16, WAYS[2]),
    ("the theory's shift places Grad-CAM at -1 worse", LAST, WAYS[0], LAST, WAYS[1]),
    ("the theory's shift places Grad-CAM at -2 worse", STRIDE_16, WAYS[0], STRIDE_16, WAYS[1]),
    ("HiResCAM at -3 in 8 passes beats Grad-CAM at -1 in one", HIRES, WAYS[4], LAST, WAYS[0]),
    ("LayerCAM at -3 in 8 passes beats Grad-CAM at -1 in one", LAYER, WAYS[4], LAST, WAYS[0]),
)
#: A way may harm this share of the pairs of map and group and still be a default: chance's.
CHANCE = 0.05


def map_section(placed: Sequence[Row], name: str) -> str:
    """One map's tables: each way over MONAI's networks, then what it gains in each group."""
    monai = [row for row in placed if is_monai(row)]
    lines = [[way, *(cell(of_map(monai, name, way), *c[1:]) for c in PLACED)] for way in WAYS]
    parts = [f"### {name}", table(["placed by", *(c[0] for c in PLACED)], lines)]
    for column, said, digits in JUDGED:
        lines = []
        for group, rows in groups(placed).items():
            first = of_map(rows, name, WAYS[0])
            if first:
                level = cell(first, (column,), mean, digits)
                gains = [gained(rows, name, way, column, digits) for way in WAYS[1:]]
                lines.append([f"{group} ({networks_in(first)})", level, *gains])
        parts.append(table([f"{said}; group (networks)", WAYS[0], *WAYS[1:]], lines))
    return "\n\n".join(parts)


def gained(
    rows: Sequence[Row],
    name: str,
    way: str,
    column: str,
    digits: int,
    beside: tuple[str, str] | None = None,
) -> str:
    """A gain with its interval, bold where that leaves out 0."""
    found = gain(rows, name, way, column, beside)
    if not found:
        return "-"
    middle, low, high = interval(found)
    said = shown((middle, low, high), digits, "+")
    return said if verdict(low, high) == "can't be told" else f"**{said}**"


def claims(placed: Sequence[Row]) -> str:
    """What each way gains on trilinear placement, case by case, and in how many networks."""
    monai = [row for row in placed if is_monai(row)]
    lines = []
    for name in NAMES:
        for way in WAYS[1:]:
            line = [name, way]
            for column, _, digits in JUDGED:
                found = gain(monai, name, way, column)
                if not found:
                    line += ["-", "-", "-"]
                    continue
                middle, low, high = interval(found)
                better = sum(each.mean() > 0 for each in found)
                line += [
                    shown((middle, low, high), digits, "+"),
                    f"{better} of {len(found)}",
                    verdict(low, high),
                ]
            lines.append(line)
    head = ["map", "placed by"]
    for _, said, _ in JUDGED:
        head += [said, "better in", "so it"]
    text = (
        "## Where it helps and where it does not\n\nAgainst trilinear placement of the same map, "
        "case by case, over MONAI's networks on scans whose sides are alike. The groups are in the "
        "tables above.\n\n"
    )
    return text + table(head, lines)


def expectations(placed: Sequence[Row]) -> str:
    """What was expected, and whether these figures say so, by kind of network."""
    found = kinds(placed)
    parts = ["### What was expected, and what came"]
    for column, said, digits in JUDGED:
        lines = []
        for expected, name, way, other, beside in EXPECTED:
            line = [expected]
            for rows in found.values():
                gains = gain(rows, name, way, column, (other, beside))
                if not gains:
                    line.append("-")
                    continue
                middle, low, high = interval(gains)
                line.append(f"{held(low, high)}: {shown((middle, low, high), digits, '+')}")
            lines.append(line)
        head = [f"expected; {said}", *(f"{k} ({networks_in(r)})" for k, r in found.items())]
        parts.append(table(head, lines))
    return "\n\n".join(parts)


def held(low: float, high: float) -> str:
    """Whether what was expected came."""
    return {"helps": "yes", "harms": "no, the contrary"}.get(verdict(low, high), "not told")


def contradicted(placed: Sequence[Row]) -> list[str]:
    """What came out contrary to what was expected, and in which kinds of networks."""
    found: dict[str, list[str]] = {}
    for kind, rows in kinds(placed).items():
        for expected, name, way, other, beside in EXPECTED:
            for column, *_ in JUDGED:
                gains = gain(rows, name, way, column, (other, beside))
                if gains and verdict(*interval(gains)[1:]) == "harms":
                    measure = "AUPRC" if column == "auprc" else column
                    found.setdefault(expected, []).append(f"{kind} ({measure})")
    return [
        f"{expected}: not so, but the contrary, for {'; '.join(k)}" for expected, k in found.items()
    ]


def tally(placed: Sequence[Row], way: str, column: str) -> tuple[int, int, int]:
    """In how many pairs of map and group a way helps, harms, and in how many it can't be told."""
    said = []
    for rows in groups(placed).values():
        for name in NAMES:
            found = gain(rows, name, way, column)
            if found:
                said.append(verdict(*interval(found)[1:]))
    return said.count("helps"), said.count("harms"), said.count("can't be told")


def default(placed: Sequence[Row]) -> str:
    """What the default should be, by a rule that is written here."""
    lines, fit = [], []
    for way in WAYS[1:]:
        counts = [tally(placed, way, column) for column, *_ in JUDGED]
        if not all(sum(each) for each in counts):
            return ""
        lines.append([way, *(str(n) for each in counts for n in each)])
        if all(2 * n[0] > sum(n) and n[1] <= CHANCE * sum(n) for n in counts):
            fit.append(way)
    head = ["placed by"]
    for measure in ("centroid", "AUPRC"):
        head += [f"{measure}: helps", "harms", "can't be told"]
    one = " or ".join(way for way in fit if way in WAYS[:3]) or "*trilinear*, not shifted"
    many = next((f"*{way}*" for way in fit if way in WAYS[3:]), "none of them")
    return (
        "### The default\n\nEach pair of a map and a group of networks, the demo network's and the "
        "lopsided ones among them, says whether a way helps:\n\n"
        + table(head, lines)
        + "\n\nThe rule: a way becomes the default of its number of passes where, by the centroid "
        "and by the AUPRC, it helps in more than half of the pairs and harms in no more than one "
        f"of twenty. By these figures: in one pass {one}; with more passes {many}. One pass stays "
        "what `medsal.explain` does when it is not asked for more."
    )


def best(placed: Sequence[Row]) -> str:
    """What came out first, with one pass of the network and with any number, for each kind."""
    lines = []
    for kind, rows in kinds(placed).items():
        for passes, ways in (("one pass", WAYS[:3]), ("up to 2", WAYS[:4]), ("up to 8", WAYS)):
            line = [kind, passes]
            for column, first, digits in (("centroid", min, 1), ("auprc", max, 3)):
                found = {
                    (name, way): interval(cases)
                    for name in NAMES
                    for way in ways
                    if (cases := by_network(of_map(rows, name, way), [column]))
                }
                name, way = first(found, key=lambda key: found[key][0])
                line.append(f"{name}, {way}: {shown(found[name, way], digits)}")
            lines.append(line)
    head = ["networks", "passes", "smallest centroid error [mm]", "largest AUPRC"]
    return "### What came out first\n\n" + table(head, lines)


def shifts_table(placed: Sequence[Row]) -> str:
    """The calibrated shifts of Grad-CAM's layers."""
    lines = [
        [
            row["network"],
            row["map"],
            row.get("shift", "-"),
            row.get("uncertainty", "-"),
            f"{row['agreement']:.2f}" if "agreement" in row else "-",
            row.get("refused", ""),
        ]
        for row in placed
        if row["case"] < 0 and row["map"] in (LAST, STRIDE_16)
    ]
    head = ["network", "map", "shift [voxels]", "standard error", "mirrored seen alike", "refused"]
    return "### The calibrated shifts of Grad-CAM\n\n" + table(head, lines)
