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
#: By what a way of placing is judged: the column, its name, digits, and the least that counts.
JUDGED = (
    ("centroid", "centroid nearer by [mm]", 1, 0.3),
    ("auprc", "AUPRC higher by", 3, 0.005),
)
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
#: No more pairs than this are named where a way harms; the tables have them all.
FEW = 4


def map_section(placed: Sequence[Row], name: str) -> str:
    """One map's tables: each way over MONAI's networks, then what it gains in each group."""
    monai = [row for row in placed if is_monai(row)]
    lines = [[way, *(cell(of_map(monai, name, way), *c[1:]) for c in PLACED)] for way in WAYS]
    parts = [f"### {name}", table(["placed by", *(c[0] for c in PLACED)], lines)]
    for column, said, digits, least in JUDGED:
        lines = []
        for group, rows in groups(placed).items():
            first = of_map(rows, name, WAYS[0])
            if first:
                level = cell(first, (column,), mean, digits)
                gains = [gained(rows, name, way, column, digits, least) for way in WAYS[1:]]
                lines.append([f"{group} ({networks_in(first)})", level, *gains])
        parts.append(table([f"{said}; group (networks)", WAYS[0], *WAYS[1:]], lines))
    return "\n\n".join(parts)


def gained(
    rows: Sequence[Row],
    name: str,
    way: str,
    column: str,
    digits: int,
    least: float,
) -> str:
    """A gain on trilinear placement with its interval, bold where it helps or harms."""
    cases = gain(rows, name, way, column)
    if not cases:
        return "-"
    found = interval(cases)
    said = shown(found, digits, "+")
    return said if verdict(found, least) == "can't be told" else f"**{said}**"


def claims(placed: Sequence[Row]) -> str:
    """What each way gains on trilinear placement, case by case, and in how many networks."""
    monai = [row for row in placed if is_monai(row)]
    lines = []
    for name in NAMES:
        for way in WAYS[1:]:
            line = [name, way]
            for column, _, digits, least in JUDGED:
                cases = gain(monai, name, way, column)
                if not cases:
                    line += ["-", "-", "-"]
                    continue
                found = interval(cases)
                better = sum(each.mean() > 0 for each in cases)
                line += [
                    shown(found, digits, "+"),
                    f"{better} of {len(cases)}",
                    verdict(found, least),
                ]
            lines.append(line)
    head = ["map", "placed by"]
    for _, said, *_ in JUDGED:
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
    for column, said, digits, least in JUDGED:
        lines = []
        for expected, name, way, other, beside in EXPECTED:
            line = [expected]
            for rows in found.values():
                gains = gain(rows, name, way, column, (other, beside))
                if not gains:
                    line.append("-")
                    continue
                each = interval(gains)
                line.append(f"{held(each, least)}: {shown(each, digits, '+')}")
            lines.append(line)
        head = [f"expected; {said}", *(f"{k} ({networks_in(r)})" for k, r in found.items())]
        parts.append(table(head, lines))
    return "\n\n".join(parts)


def held(found: tuple[float, float, float], least: float) -> str:
    """Whether what was expected came."""
    return {"helps": "yes", "harms": "no, the contrary"}.get(verdict(found, least), "not told")


def contradicted(placed: Sequence[Row]) -> list[str]:
    """What came out contrary to what was expected, and in which kinds of networks."""
    found: dict[str, list[str]] = {}
    for kind, rows in kinds(placed).items():
        for expected, name, way, other, beside in EXPECTED:
            for column, _, _, least in JUDGED:
                gains = gain(rows, name, way, column, (other, beside))
                if gains and verdict(interval(gains), least) == "harms":
                    measure = "AUPRC" if column == "auprc" else column
                    found.setdefault(expected, []).append(f"{kind} ({measure})")
    return [
        f"{expected}: not so, but the contrary, for {'; '.join(k)}" for expected, k in found.items()
    ]


def verdicts(placed: Sequence[Row], way: str, column: str) -> dict[tuple[str, str], str]:
    """Of each pair of a map and a group, whether a way helps, harms, or it can't be told."""
    least = {each[0]: each[3] for each in JUDGED}[column]
    return {
        (name, group): verdict(interval(found), least)
        for group, rows in groups(placed).items()
        for name in NAMES
        if (found := gain(rows, name, way, column))
    }


def judged(placed: Sequence[Row], way: str) -> str:
    """How often a way of placing helps, and where it harms."""
    said, harmed = [], set()
    for column, *_ in JUDGED:
        found = verdicts(placed, way, column)
        helps = sum(each == "helps" for each in found.values())
        harms = [f"{name} of {group}" for (name, group), each in found.items() if each == "harms"]
        measure = "AUPRC" if column == "auprc" else column
        said.append(f"by the {measure} it helps in {helps} of {len(found)}, harms in {len(harms)}")
        harmed |= set(harms)
    where = f" It harms {'; '.join(sorted(harmed))}." if 0 < len(harmed) <= FEW else ""
    return f"*{way}* against trilinear, over pairs of a map and a group: {'; '.join(said)}.{where}"


def default(placed: Sequence[Row]) -> str:
    """What the default should be, by a rule that is written here."""
    fit = []
    for way in WAYS[1:]:
        counts = [list(verdicts(placed, way, column).values()) for column, *_ in JUDGED]
        if all(
            2 * each.count("helps") > len(each) and each.count("harms") <= CHANCE * len(each)
            for each in counts
        ):
            fit.append(way)
    one = " or ".join(f"*{way}*" for way in fit if way in WAYS[:3]) or "*trilinear*, not shifted"
    many = next((f"*{way}*" for way in fit if way in WAYS[3:]), "none of them")
    return (
        "### The default\n\nEach pair of a map and a group of networks, the demo network's and the "
        "lopsided ones among them, says whether a way helps (*In short* has the counts); a gain of "
        f"less than {JUDGED[0][3]} mm or {JUDGED[1][3]} of AUPRC does not count. The rule: a way "
        "becomes the default of its number of passes where, by the centroid "
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
