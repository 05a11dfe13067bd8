"""What maps cost, beside the forward pass and other libraries: ``python -m tests.benchmarks``.

Prints a table; ``--page`` writes it to ``tutorials/cost.md`` with a plot, together with what
earlier runs have put into the folder of ``--keep``. Every number comes from a process of its own.
Other libraries come with ``pip install 'medsal[bench]'``; what is not there is left out and named.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.cost.agreement import Agreement, agreements
from tests.benchmarks.cost.contenders import IMPORT, NETS, RUNS, USUAL
from tests.benchmarks.cost.growth import Curve, grown, plot
from tests.benchmarks.cost.page import machine, page
from tests.benchmarks.cost.table import Key, Row, in_order, key_of, rows

PAGE = Path(__file__).parents[2] / "tutorials" / "cost.md"


def stored(folder: Path | None, name: str) -> Any:
    """What an earlier run has kept; None without one."""
    path = folder and folder / name
    return json.loads(path.read_text("utf-8")) if path and path.is_file() else None


def keep(folder: Path | None, name: str, found: Any) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(found, indent=1), "utf-8")


def kept(folder: Path | None) -> dict[Key, Row]:
    """The rows of an earlier run."""
    found = [Row(**each) for each in stored(folder, "rows.json") or []]
    return {key_of(row): row for row in found}


def growth(asked: argparse.Namespace) -> dict[str, dict[str, Curve]]:
    """The curves, of an earlier run where there are some."""
    found: dict[str, dict[str, Curve]] | None = stored(asked.keep, "growth.json")
    if found is None:
        found = grown(asked)
        keep(asked.keep, "growth.json", found)
    return found


def agreement(asked: argparse.Namespace) -> list[Agreement]:
    """How far approximations agree, of an earlier run where there is one."""
    known = stored(asked.keep, "agreement.json")
    if known is not None:
        return [Agreement(**each) for each in known]
    found = []
    for each in agreements(asked):
        found.append(each)
        print(each, flush=True)
    keep(asked.keep, "agreement.json", [asdict(each) for each in found])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.benchmarks")
    parser.add_argument("--size", type=int, default=64, help="voxels along each axis in 3D")
    parser.add_argument("--memory-size", type=int, help="those for the peaks of memory")
    parser.add_argument("--flat-size", type=int, default=224, help="pixels along each axis in 2D")
    parser.add_argument("--flat-memory-size", type=int, help="those for the peaks of memory")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128, 192, 256])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default=None, help="cuda where there is one, else cpu")
    parser.add_argument("--what", nargs="+", choices=[*RUNS, IMPORT], default=[*RUNS, IMPORT])
    parser.add_argument("--nets", nargs="+", choices=NETS, default=USUAL)
    parser.add_argument("--agreement", action="store_true", help="how far approximations agree")
    parser.add_argument("--page", action="store_true", help="write tutorials/cost.md")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="to go on, or to measure in parts"
    )
    asked = parser.parse_args()
    if asked.agreement:
        agreement(asked)
        return
    known = kept(asked.keep)
    for row in rows(asked, known):
        print(row, flush=True)
        known[key_of(row)] = row
        keep(asked.keep, "rows.json", [asdict(each) for each in known.values()])
    if asked.page:
        measured = growth(asked)
        plot(measured, PAGE.parent / "images" / "cost.png")
        found = in_order(known.values())
        PAGE.write_text(page(found, agreement(asked), measured, machine(asked)), "utf-8")


if __name__ == "__main__":
    main()
