"""From a result to its files: one path, or all files of a case."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medsal.export.hot import SHARE
from medsal.export.names import description, label
from medsal.export.page import kept_checks
from medsal.export.slicer import SCENES, check_placed
from medsal.export.slicer import SUFFIX as SEGMENTATION
from medsal.export.staging import Stage, staged
from medsal.export.volume import VOLUMES, write_volume
from medsal.export.writer import FIGURES, PAGE, Writer
from medsal.result import SaliencyMap
from medsal.scan import Scan

OUTPUTS = ("nifti", "png", "scan", "mrb", "html")
"""What `save_case` writes of a scan; the provenance comes along with any of it."""


def save(
    result: SaliencyMap,
    path: str | Path,
    *,
    home: bool = True,
    classes: Sequence[str] = (),
    share: float = SHARE,
    **options: Any,
) -> list[Path]:
    """Write one sample's map; the suffix says as what.

    ``.nii.gz``, ``.nii``, ``.nrrd``, ``.mha``: the raw map, and beside it a ``.json`` that says how
    it was made. ``.mrb``: a scene that 3D Slicer opens, with the scan and all targets; ``.mrml``:
    the same with a folder beside it. ``.seg.nrrd``: the hot region. ``.png``, ``.pdf``, ``.svg``:
    the figure. ``.html``: the report, with all targets. ``.json``: the provenance alone. A sheared
    grid, which NIfTI readers place differently, is written as ``.nrrd``.

    Args:
        result: one sample. Several targets give a file each, with ``_label-<target>`` in the name;
            a scene and a report hold them all.
        path: the file; its folder is made if it is missing.
        home: write on the grid of the file that came in, where the image knows it; False = on the
            grid that the network saw.
        classes: the names of the model's classes.
        share: of a map's maximum, from which on a voxel is in the hot region.
        **options: of `medsal.view.ortho`, for figures; of `medsal.view.report`, for a report.

    Returns:
        The files written.

    Raises:
        ValueError: for several samples, an unknown suffix, a path that is the scan itself, an
            image without a place (unless ``home=False``), or a scene of a picture or a signal.
    """
    path = Path(path)
    suffix = _kind(path)
    placed, written = _placed(result, path, suffix, home)
    stem = path.name[: -len(suffix)]
    made: list[Path] = []
    with staged(path.parent, _sources([placed])) as stage:
        writer = Writer(stage, classes, written, share)
        if suffix in SCENES:
            return writer.scene([placed], path.name)
        if suffix == PAGE:
            return writer.page([placed], path.name, options)
        for i, target in enumerate(result.targets):
            extra = f"_label-{label(target, classes)}" if len(result.targets) > 1 else ""
            name = f"{stem}{extra}{suffix}"
            if stage.path(name).exists():
                raise ValueError(f"two targets would be written as {name}; save them one by one")
            if suffix in FIGURES:
                made += writer.figure(placed, i, name, options)
            else:
                made += writer.map(placed, i, name, suffix)
    return made


def _kind(path: Path) -> str:
    """The suffix that says as what a map is written."""
    known = (SEGMENTATION, *VOLUMES, *SCENES, *FIGURES, PAGE, ".json")
    suffix = next((each for each in known if path.name.lower().endswith(each)), None)
    if suffix is None:
        raise ValueError(f"expected a file name that ends in one of {', '.join(known)}, got {path}")
    return suffix


def _placed(result: SaliencyMap, path: Path, suffix: str, home: bool) -> tuple[SaliencyMap, str]:
    """One sample's map on the grid that it is written on, and which grid that is."""
    if len(result) != 1:
        raise ValueError(
            f"expected one sample, got {len(result)}; save each: result[0].save({path.name!r})"
        )
    if suffix in SCENES:
        check_placed(result)
    spatial = suffix in (*VOLUMES, *SCENES, SEGMENTATION)
    if spatial and home and result.affine is None:
        raise ValueError(
            "the image brought no affine, so its map has no place in a patient: load it with "
            "MONAI's LoadImaged and keep the MetaTensor, or write it in voxels with home=False"
        )
    origin = result.origins[0]
    if home and (origin.path is not None or origin.shape is not None):
        return result.home(), "scan"
    return result, "network"


def save_case(
    results: Sequence[SaliencyMap],
    scan: Scan,
    folder: str | Path,
    *,
    classes: Sequence[str] = (),
    outputs: Sequence[str] = OUTPUTS,
    share: float = SHARE,
    checks: Mapping[str, Any] | None = None,
    report: str = "report.html",
) -> list[Path]:
    """All files of one scan, together or not at all.

    For each map ``<scan>_label-<target>_desc-<method>_saliency`` as ``.json``, its provenance, as
    ``.nii.gz`` ("nifti") and as ``.png`` ("png"). ``<scan>.nii.gz``, the scan by the same writer
    ("scan"). ``<scan>.mrb`` ("mrb") opens all of it in 3D Slicer; there is none of a picture, which
    has no place in a patient. ``report.html`` ("html") shows all of it in a browser. With
    "nifti", where the network did not see all of the scan,
    ``<scan>_desc-seen_mask.nii.gz``.

    Args:
        results: maps of this scan on its own grid (`SaliencyMap.home`).
        scan: the scan.
        folder: where to; made if it is missing.
        classes: the names of the model's classes.
        outputs: which of `OUTPUTS` to write.
        share: of a map's maximum, from which on a voxel is in the hot region.
        checks: figures of sanity checks and faithfulness, for the report and the provenance; None
            = what `medsal check` left in the folder.
        report: the report's name.

    Returns:
        The files written.

    Raises:
        LookupError: for an output that there is not.
        ValueError: when two maps would have one name, or the scan itself would be written over.
    """
    folder, wanted = Path(folder), checked_outputs(outputs)
    made: list[Path] = []
    with staged(folder, [scan.path]) as stage:
        known = kept_checks(folder, scan.name, results) if checks is None else checks
        writer = Writer(stage, classes, "scan", share, known)
        made += _scan(stage, scan) if "scan" in wanted else []
        for result in results:
            for i, target in enumerate(result.targets):
                stem = (
                    f"{scan.name}_label-{label(target, classes)}_desc-{description(result.method)}"
                )
                suffix = ".nii.gz" if "nifti" in wanted else ".json"
                name = f"{stem}_saliency{suffix}"
                if any(stage.folder.glob(f"{stem}_saliency.*")):
                    raise ValueError(
                        f"two maps would be written as {name}; write them into different folders"
                    )
                made += writer.map(result, i, name, suffix)
                if "png" in wanted:
                    made += writer.figure(result, i, f"{stem}_saliency.png", {"title": scan.name})
        made += _seen(stage, results, scan) if "nifti" in wanted else []
        if "mrb" in wanted and scan.kind != "picture":
            made += writer.scene(results, f"{scan.name}.mrb")
        if "html" in wanted:
            made += writer.page(results, report, {"title": scan.name})
    return made


def checked_outputs(outputs: Sequence[str]) -> tuple[str, ...]:
    """What to write, in the order of `OUTPUTS`; one name alone may be given as it is.

    Raises:
        LookupError: for a name that is none of them.
        ValueError: when nothing would be written.
    """
    names = [outputs] if isinstance(outputs, str) else list(outputs)
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise LookupError(f"expected outputs of {list(OUTPUTS)}, got {unknown[0]!r}")
    if not names:
        raise ValueError(f"expected at least one output of {list(OUTPUTS)}, got none")
    return tuple(name for name in OUTPUTS if name in names)


def _scan(stage: Stage, scan: Scan) -> list[Path]:
    """The scan by the same writer: a reader then places both by the same header."""
    several = len(scan.data) > 1
    names = [f"_channel-{i}" if several else "" for i in range(len(scan.data))]
    return [
        stage.target
        / write_volume(stage.path(f"{scan.name}{name}.nii.gz"), channel, scan.affine).name
        for name, channel in zip(names, scan.data, strict=True)
    ]


def _seen(stage: Stage, results: Sequence[SaliencyMap], scan: Scan) -> list[Path]:
    seen = next((result.seen for result in results if result.seen is not None), None)
    if seen is None or bool(seen.all()):
        return []
    path = stage.path(f"{scan.name}_desc-seen_mask.nii.gz")
    voxels = seen[0, 0].cpu().numpy().astype(np.float32)
    return [stage.target / write_volume(path, voxels, scan.affine, limits=(0.0, 1.0)).name]


def _sources(results: Sequence[SaliencyMap]) -> list[Path]:
    return [Path(origin.path) for result in results for origin in result.origins if origin.path]
