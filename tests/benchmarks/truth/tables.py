"""Figures as they are kept: a list of rows for each network and stage, and three tables of all."""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
#: What is kept beside the page, and the stage that it is gathered from.
TABLES = {
    "truth_networks": "train",
    "truth_placement": "place",
    "truth_methods": "compare",
    "truth_times": "time",
}


def save(path: Path, rows: list[Row]) -> None:
    """Write rows, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(rows, indent=0) + "\n")
    part.rename(path)


def load(path: Path) -> list[Row]:
    """Read what `save` wrote."""
    rows: list[Row] = json.loads(path.read_text())
    return rows


def gather(folder: Path, to: Path) -> None:
    """Gather all rows of a folder into the tables beside the page; a stage without rows is left."""
    for name, stage in TABLES.items():
        rows = [row for path in sorted(folder.glob(f"*.{stage}*.json")) for row in load(path)]
        if rows:
            write(to / f"{name}.csv", rows)


def write(path: Path, rows: list[Row]) -> None:
    """Write rows as CSV, numbers to four digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " ".join(_short(each) for each in value)
    return value


def read(path: Path) -> list[Row]:
    """Read a table; what is a number becomes one, what is empty is left out. No file, no rows."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            {key: _number(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def _number(value: str) -> Any:
    try:
        return float(value)
    except ValueError:
        return value


def column(rows: Iterable[Row], name: str) -> list[float]:
    """A column's numbers."""
    return [float(row[name]) for row in rows if name in row]
