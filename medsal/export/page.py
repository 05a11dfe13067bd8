"""The report of a case, with how each of its maps was made."""

import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsal.export.hot import SHARE
from medsal.export.sidecar import check_name, file_hash, sidecar
from medsal.result import SaliencyMap
from medsal.view import Interactive, report
from medsal.view.words import explained, named


def page(
    results: Sequence[SaliencyMap],
    *,
    classes: Sequence[str] = (),
    written: str = "",
    share: float = SHARE,
    checks: Mapping[str, Any] | None = None,
    **options: Any,
) -> str:
    """Maps of one sample as one HTML file.

    Args:
        results: maps of one sample on one grid.
        classes: the names of the model's classes.
        written: the grid that the maps are on: ``"scan"`` or ``"network"``.
        share: of a map's maximum, from which on a voxel is in the hot region.
        checks: what `medsal check` found, by "method, target".
        **options: of `medsal.view.report`.

    Raises:
        ValueError: no result, or several samples in one.
    """
    maps = [(each, k) for each in results for k in range(len(each.targets))]
    made = [sidecar(each, k, classes, written, share) for each, k in maps]
    for provenance in made:
        del provenance["SanityChecks"]  # they have a part of the page to themselves
    called = {
        check_name(each, k, classes): f"{named(each.method)}, {explained(each.targets[k], classes)}"
        for each, k in maps
    }
    found = {called.get(name, name): said for name, said in (checks or {}).items()}
    return report(results, provenance=made, classes=classes, checks=found, **options)


def kept_checks(
    folder: Path, name: str, results: Sequence[SaliencyMap]
) -> dict[str, dict[str, Any]]:
    """What `medsal check` left in a folder on this scan, of the model that made these maps.

    Args:
        folder: where the results are written to.
        name: of the scan.
        results: the maps.

    Returns:
        By "method, target": whether all was passed, each outcome, and what it means.
    """
    models = {each.model.sha256 for each in results}
    origin = results[0].origins[0].path if results else None
    scan = file_hash(Path(origin)) if origin and Path(origin).exists() else None
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob(f"{glob.escape(name)}_desc-*_check.json")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            if said["Model"]["sha256"] in models and said.get("InputSHA256", scan) == scan:
                found[f"{said['Method']}, {said['Target']}"] = {
                    "Passed": said.get("Passed"),
                    "Summary": said["Summary"],
                    "Words": {each["Name"]: each["Words"] for each in said.get("Findings", [])},
                }
        except (ValueError, LookupError, TypeError):
            continue  # another program's file
    return found


def view(result: SaliencyMap, *, height: int = 940, **options: Any) -> Interactive:
    """The report of one sample, for a notebook.

    Args:
        result: one sample.
        height: of the frame [pixels].
        **options: of `page`.

    Raises:
        ValueError: for several samples.
    """
    if len(result) != 1:
        raise ValueError(f"expected one sample, got {len(result)}; view each: result[0].view()")
    return Interactive(page([result], notebook=True, **options), height)
