"""From a result to its files: one path, or all files of a case."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medsal.export.names import description, label
from medsal.export.sidecar import as_json, sidecar
from medsal.export.staging import Stage, staged
from medsal.export.volume import VOLUMES, suffix_of, write_volume
from medsal.result import SaliencyMap
from medsal.scan import Scan

DOTS_PER_INCH = 150
OUTPUTS = ("nifti", "png", "scan")
"""What `save_case` writes of a scan; the provenance comes along with any of it."""


def save(
    result: SaliencyMap,
    path: str | Path,
    *,
    home: bool = True,
    classes: Sequence[str] = (),
    **options: Any,
) -> list[Path]:
    """Write one sample's map; the suffix says as what.

    ``.nii.gz``, ``.nii``, ``.nrrd``, ``.mha``: the raw map, and beside it a ``.json`` that says how
    it was made. ``.png``, ``.pdf``, ``.svg``: the figure. ``.json``: the provenance alone. A
    sheared grid, which NIfTI readers place differently, is written as ``.nrrd``.

    Args:
        result: one sample. Several targets give a file each, with ``_label-<target>`` in the name.
        path: the file; its folder is made if it is missing.
        home: write on the grid of the file that came in, where the image knows it; False = on the
            grid that the network saw.
        classes: the names of the model's classes.
        **options: of `medsal.view.ortho`, for figures.

    Returns:
        The files written.

    Raises:
        ValueError: for several samples, an unknown suffix, a path that is the scan itself, or an
            image without a place (unless ``home=False``).
    """
    path = Path(path)
    known = (*VOLUMES, ".png", ".pdf", ".svg", ".json")
    suffix = next((each for each in known if path.name.lower().endswith(each)), None)
    if suffix is None:
        raise ValueError(f"expected a file name that ends in one of {', '.join(known)}, got {path}")
    if len(result) != 1:
        raise ValueError(
            f"expected one sample, got {len(result)}; save each: result[0].save({path.name!r})"
        )
    origin = result.origins[0]
    known_origin = origin.path is not None or origin.shape is not None
    if suffix in VOLUMES and home and result.affine is None:
        raise ValueError(
            "the image brought no affine, so its map has no place in a patient: load it with "
            "MONAI's LoadImaged and keep the MetaTensor, or write it in voxels with home=False"
        )
    placed = result.home() if home and known_origin else result
    written = "scan" if placed is not result else "network"
    stem = path.name[: -len(suffix)]
    made: list[Path] = []
    with staged(path.parent, _sources([placed])) as stage:
        for i, target in enumerate(result.targets):
            extra = f"_label-{label(target, classes)}" if len(result.targets) > 1 else ""
            name = f"{stem}{extra}{suffix}"
            if stage.path(name).exists():
                raise ValueError(f"two targets would be written as {name}; save them one by one")
            made += _one(stage, placed, i, name, suffix, classes, written, options)
    return made


def save_case(
    results: Sequence[SaliencyMap],
    scan: Scan,
    folder: str | Path,
    *,
    classes: Sequence[str] = (),
    outputs: Sequence[str] = OUTPUTS,
) -> list[Path]:
    """All files of one scan, together or not at all.

    For each map ``<scan>_label-<target>_desc-<method>_saliency`` as ``.json``, its provenance, as
    ``.nii.gz`` ("nifti") and as ``.png`` ("png"). ``<scan>.nii.gz``, the scan by the same writer
    ("scan"). With "nifti", where the network did not see all of it,
    ``<scan>_desc-seen_mask.nii.gz``.

    Args:
        results: maps of this scan on its own grid (`SaliencyMap.home`).
        scan: the scan.
        folder: where to; made if it is missing.
        classes: the names of the model's classes.
        outputs: which of `OUTPUTS` to write.

    Returns:
        The files written.

    Raises:
        LookupError: for an output that there is not.
        ValueError: when two maps would have one name, or the scan itself would be written over.
    """
    folder, wanted = Path(folder), checked_outputs(outputs)
    made: list[Path] = []
    with staged(folder, [scan.path]) as stage:
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
                made += _one(stage, result, i, name, suffix, classes, "scan", {})
                title = f"{scan.name} \N{MIDDLE DOT} {label(target, classes)}"
                if "png" in wanted:
                    made += _figure(stage, result, i, f"{stem}_saliency.png", {"title": title})
        made += _seen(stage, results, scan) if "nifti" in wanted else []
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


def _one(
    stage: Stage,
    result: SaliencyMap,
    target: int,
    name: str,
    suffix: str,
    classes: Sequence[str],
    written: str,
    options: dict[str, Any],
) -> list[Path]:
    """One target's map, figure or provenance."""
    if suffix not in (*VOLUMES, ".json"):
        return _figure(stage, result, target, name, options)
    made = []
    if suffix in VOLUMES:
        voxels = result.data[0, target].cpu().numpy()
        said = f"medsal {description(result.method)}"
        path = write_volume(stage.path(name), voxels, _affine(result), description=said)
        made.append(stage.target / path.name)
        name = path.name[: -len(suffix_of(path))] + ".json"
    text = as_json(sidecar(result, target, classes, written))
    stage.path(name).write_text(text, encoding="utf-8")
    return [*made, stage.target / name]


def _figure(
    stage: Stage, result: SaliencyMap, target: int, name: str, options: dict[str, Any]
) -> list[Path]:
    figure = result.plot(target=target, **options)
    figure.savefig(stage.path(name), dpi=DOTS_PER_INCH, facecolor=figure.get_facecolor())
    return [stage.target / name]


def _affine(result: SaliencyMap) -> np.ndarray:
    """The map's affine; without one, where that was asked for, voxels count as mm."""
    if result.affine is None:
        return np.eye(4)
    return np.asarray(result.affine.double().cpu())


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
