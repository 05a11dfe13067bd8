"""The page: tables, pictures, and sentences that say what the figures say and no more."""

from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.truth import pictures, tables, where, which
from tests.benchmarks.truth.figures import interval
from tests.benchmarks.truth.networks import ACCURATE, FAMILIES
from tests.benchmarks.truth.placing import WAYS
from tests.benchmarks.truth.reading import by_network, kinds, of_map, shown, table
from tests.benchmarks.truth.tables import Row
from tests.benchmarks.truth.words import ADVICE, INTRODUCTION, METHODS_TEXT, PLACEMENT_TEXT


def write(folder: Path) -> None:
    """Write `truth.md`, its pictures and `truth_methods.md` from the tables in the folder."""
    networks, placed, compared, times = (
        tables.read(folder / f"{name}.csv") for name in tables.TABLES
    )
    advice = which.which_for_what(compared)
    (folder / "truth_methods.md").write_text(advice)
    pictures.placement(placed, folder / "images" / "truth_placement.png")
    pictures.methods(compared, folder / "images" / "truth_methods.png")
    parts = [
        INTRODUCTION.format(took=took(networks, placed, compared, times)),
        in_short(networks, placed, compared),
        "## The networks",
        networks_table(networks),
        PLACEMENT_TEXT,
        *(where.map_section(placed, name) for name in where.NAMES),
        where.claims(placed),
        where.expectations(placed),
        where.default(placed),
        where.best(placed),
        where.shifts_table(placed),
        METHODS_TEXT,
        which.methods_tables(compared),
        which.refusals(compared),
        ADVICE,
        advice,
    ]
    (folder / "truth.md").write_text("\n\n".join(part.strip() for part in parts if part) + "\n")


def took(
    networks: Sequence[Row], placed: Sequence[Row], compared: Sequence[Row], times: Sequence[Row]
) -> str:
    """How long the command takes, by stage; what was not timed is said."""
    stages: dict[str, float] = {"training": sum(row["seconds"] for row in networks)}
    for row in times:
        stage = row["stage"].rstrip("0123456789").partition("_")[0]
        stages[stage] = stages.get(stage, 0.0) + row["seconds"]
    said = ", ".join(f"{stage} {seconds / 60:.0f}" for stage, seconds in stages.items())
    parts = {(row["network"], "place") for row in placed}
    parts |= {(row["network"], f"compare{row['case']:.0f}") for row in compared}
    missing = len(parts - {(row["network"], row["stage"]) for row in times})
    rest = f"; {missing} of {len(parts)} parts were not timed and are not in it" if missing else ""
    return f"{sum(stages.values()) / 60:.0f} CPU minutes on one core here ({said}{rest})"


def used(networks: Sequence[Row]) -> list[Row]:
    """The networks that are right often enough."""
    return [row for row in networks if row["accuracy"] >= ACCURATE]


def in_short(networks: Sequence[Row], placed: Sequence[Row], compared: Sequence[Row]) -> str:
    """What the figures say, in a few lines; each is read off the tables."""
    lines = [
        f"{len(used(networks))} of {len(networks)} networks are right in {ACCURATE} or more of "
        "held-out scans and are used; of these, only lesions that were classified rightly count."
    ]
    lines += [where.judged(placed, way) for way in WAYS[1:]]
    lines += [beside_nothing(placed, compared)]
    lines += [f"Contrary to what was expected: {each}." for each in where.contradicted(placed)]
    return "## In short\n\n" + "\n".join(f"- {line}" for line in lines if line)


def beside_nothing(placed: Sequence[Row], compared: Sequence[Row]) -> str:
    """Whether Grad-CAM at the last layer says more than a blob in the middle of the grid."""
    said = []
    for kind, rows in kinds(placed).items():
        blob = [r for r in kinds(compared).get(kind, []) if r["method"] == "middle of the grid"]
        if not blob:
            continue
        blind = interval(by_network(blob, ["centroid"]))
        found = {
            way: interval(by_network(of_map(rows, where.LAST, way), ["centroid"]))
            for way in (WAYS[0], WAYS[3])
        }
        told = ", ".join(f"{way} {shown(each, 1)}" for way, each in found.items())
        hits = interval(by_network(of_map(rows, where.LAST, WAYS[3]), ["hit"]))
        said.append(
            f"{which.titled(kind)}: {told}; a blob in the middle of the grid {shown(blind, 1)}; "
            f"its peak, {WAYS[3]}, lies in {shown(hits, 2)} of the lesions"
        )
    return f"Centroid of {where.LAST} to the lesion [mm]: {'. '.join(said)}." if said else ""


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
