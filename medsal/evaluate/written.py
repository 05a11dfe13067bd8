"""A check as files: JSON that other parts show, and a picture."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsal.evaluate.finding import LARGE, SMALL
from medsal.export.names import description, label
from medsal.export.sidecar import as_json, file_hash
from medsal.export.staging import staged
from medsal.result import SaliencyMap

if TYPE_CHECKING:
    from medsal.evaluate.check import Check
    from medsal.evaluate.faithfulness import Curve

DOTS_PER_INCH = 150


def as_dict(check: "Check") -> dict[str, Any]:
    """All that a check found, as JSON holds it."""
    result, cascade = check.result, check.cascade
    return {
        "Description": "Sanity and faithfulness of a saliency method on one network and scan.",
        "IntendedUse": "Research only; not a diagnosis.",
        "Method": repr(result.method),
        "Target": label(result.targets[0], check.classes),
        "InputSHA256": _hash(result),
        "Model": {"name": result.model.name, "sha256": result.model.sha256},
        "Passed": check.passed,
        "Summary": {each.name: each.line for each in check.findings},
        "Findings": [each.as_dict() for each in check.findings],
        "Limits": {"Passed": SMALL, "Failed": LARGE},
        "Randomisation": {
            "Layers": [list(names) for names in cascade.layers],
            "RankCorrelation": cascade.similarity.rank.tolist(),
            "OfMagnitudes": cascade.similarity.magnitude.tolist(),
            "SSIM": cascade.similarity.ssim.tolist(),
        },
        "OtherClasses": {
            label(each, check.classes): rank
            for each, rank in zip(check.others.classes, check.others.rank, strict=True)
        }
        if check.others
        else None,
        "Deletion": _curve(check.faith.deletion),
        "Insertion": _curve(check.faith.insertion),
        "RandomMaps": list(check.faith.random),
        "Figures": dict(check.figures),
    }


def _curve(curve: "Curve") -> dict[str, Any]:
    return {
        "Fractions": curve.fractions.tolist(),
        "Scores": curve.scores[0].tolist(),
        "NormalisedArea": float(curve.normalised) if bool(curve.defined.all()) else None,
    }


def _stem(name: str, result: SaliencyMap) -> str:
    return f"{name}_desc-{description(result.method)}_check"


def _hash(result: SaliencyMap) -> str | None:
    path = Path(result.origins[0].path or "")
    return file_hash(path) if result.origins[0].path and path.exists() else None


def save(check: "Check", folder: Path, name: str) -> list[Path]:
    """Both files, together or not at all; never over the scan."""
    stem = _stem(name, check.result)
    sources: Iterable[Path] = [Path(each.path) for each in check.result.origins if each.path]
    with staged(folder, sources) as stage:
        stage.path(f"{stem}.json").write_text(as_json(check.as_dict()), encoding="utf-8")
        figure = check.plot()
        figure.savefig(
            stage.path(f"{stem}.png"), dpi=DOTS_PER_INCH, facecolor=figure.get_facecolor()
        )
    return [folder / f"{stem}.json", folder / f"{stem}.png"]
