"""The sidecar: what it takes to read a map, and to make it again."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from medsal.export.hot import SHARE, hot_regions
from medsal.export.names import description, label
from medsal.export.spelling import spelled
from medsal.outputs import class_logits, main_output
from medsal.result import SaliencyMap
from medsal.space import orthonormality


def sidecar(
    result: SaliencyMap,
    target: int = 0,
    classes: Sequence[str] = (),
    written: str = "",
    share: float = SHARE,
    checks: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """How one sample's map was made and what it holds; only what JSON can hold.

    Names of people and folders stay out: files are named by their name and hash.

    Args:
        result: one sample.
        target: which of the result's targets.
        classes: the names of the model's classes.
        written: the grid that the map is written on: ``"scan"`` or ``"network"``.
        share: of the map's maximum, from which on a voxel is in the hot region.
        checks: what `medsal check` found, by "method, target".
    """
    voxels = result.data[0, target]
    low, high = float(voxels.min()), float(voxels.max())
    return {
        "Description": "Saliency map: where a network looked. Raw values, not rescaled.",
        "Sources": [Path(each.path).name for each in result.origins if each.path],
        "SpatialReference": "orig" if written == "scan" else None,
        "GeneratedBy": [{"Name": "medsal", "Version": metadata.version("medsal")}],
        "IntendedUse": "Research only; not a diagnosis.",
        "Method": _method(result.method),
        "Target": {
            "Name": label(result.targets[target], classes),
            "Definition": repr(result.targets[target]),
            **spelled(result.targets[target]),
        },
        "Layer": _layer(result),
        "Model": dataclasses.asdict(result.model),
        "Forward": _forward(result),
        "Bundle": _bundle(result),
        **circumstances(result),
        "Prediction": _prediction(result.output, classes),
        "Input": _input(result),
        "Grid": _grid(result, written),
        "Upsampling": {"Mode": "linear", "AlignCorners": False} if result.cells else None,
        "MapSHA256": map_hash(voxels.cpu().numpy()),
        "RawRange": [low, high],
        "Signed": low < 0,
        "HotRegions": _hot(result, target, share),
        "Units": "arbitrary: change of the score",
        "SeenFraction": 1.0 if result.seen is None else float(result.seen.double().mean()),
        "SanityChecks": (checks or {}).get(check_name(result, target, classes)),
        "Notes": list(result.notes),
        "CreatedUTC": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def check_name(result: SaliencyMap, target: int = 0, classes: Sequence[str] = ()) -> str:
    """What the checks of a map are found by: "method, target"."""
    return f"{result.method!r}, {label(result.targets[target], classes)}"


def as_json(provenance: dict[str, Any]) -> str:
    """Canonical JSON: sorted keys, no NaN."""
    return json.dumps(provenance, indent=2, sort_keys=True, allow_nan=False) + "\n"


def _method(method: Any) -> dict[str, Any]:
    return {
        "Name": getattr(method, "name", "") or description(method),
        "Definition": repr(method),
        **spelled(method),
        "Reference": getattr(method, "source", None),
    }


def _forward(result: SaliencyMap) -> dict[str, Any] | None:
    if result.forward_kwargs is None:
        return None
    given = {name: spelled(each) for name, each in result.forward_kwargs.items()}
    return {"Image": result.input, "Arguments": given}


def _bundle(result: SaliencyMap) -> dict[str, Any] | None:
    made = result.pipeline
    if made is None:
        return None
    return {"Name": made.name, "Version": made.version, "Preprocessing": made.preprocessing}


def circumstances(result: SaliencyMap) -> dict[str, Any]:
    """Where a map's numbers were made: the last digits depend on it."""
    return {
        "Device": _device(result.output),
        "Threads": torch.get_num_threads(),
        "Versions": versions(),
    }


def _device(output: Any) -> str | None:
    try:
        device = main_output(output).device
    except TypeError:
        return None
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _layer(result: SaliencyMap) -> dict[str, Any] | None:
    if result.layer is None:
        return None
    names = [result.layer] if isinstance(result.layer, str) else list(result.layer)
    widths = [round(mm, 4) for mm in result.cell_mm] if result.cell_mm else None
    return {"Name": names, "Cells": list(result.cells or ()), "CellWidthMM": widths}


def _prediction(output: Any, classes: Sequence[str]) -> dict[str, Any] | None:
    try:
        logits = class_logits(output)
    except TypeError:
        return None
    if logits is None or len(logits) != 1:
        return None
    values = logits[0].double()
    found: dict[str, Any] = {"Logits": values.tolist()}
    if len(values) > 1:
        found |= {"Class": int(values.argmax()), "Softmax": values.softmax(0).tolist()}
        if found["Class"] < len(classes):
            found["Name"] = classes[found["Class"]]
    return found


def _input(result: SaliencyMap) -> dict[str, Any]:
    origin = result.origins[0]
    path = Path(origin.path) if origin.path else None
    return {
        "File": path.name if path else None,
        "SHA256": file_hash(path) if path and path.exists() else None,
        "Shape": list(origin.shape) if origin.shape else None,
        "Affine": _rows(origin.affine),
    }


def _grid(result: SaliencyMap, written: str) -> dict[str, Any]:
    affine = result.affine
    return {
        "Of": written,
        "Shape": list(result.data.shape[2:]),
        "Affine": _rows(affine),
        "Space": None if affine is None else "RAS mm",
        "Shear": None if affine is None else orthonormality(np.asarray(affine)),
    }


def _hot(result: SaliencyMap, target: int, share: float) -> list[dict[str, Any]]:
    """The hot region of each sign, as segmentations of this map have it."""
    affine = result.affine
    voxel = None if affine is None else abs(float(np.linalg.det(np.asarray(affine)[:3, :3])))
    return [
        {
            "Sign": hot.sign,
            "ShareOfMaximum": hot.share,
            "Threshold": hot.threshold,
            "Voxels": int(hot.mask.sum()),
            "VolumeML": None if voxel is None else round(voxel * int(hot.mask.sum()) / 1000, 6),
        }
        for hot in hot_regions(result.data[0, target].cpu().numpy(), share)
    ]


def _rows(affine: Tensor | None) -> list[list[float]] | None:
    return None if affine is None else affine.double().tolist()


def versions() -> dict[str, str | None]:
    """Of what a map's numbers may depend on."""
    others = ("medsal", "monai", "nibabel", "numpy", "simpleitk")
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in others},
    }


def map_hash(voxels: Float32[np.ndarray, "*s"]) -> str:
    """SHA-256 of a map's voxels as they are written: float32, the last axis runs first."""
    return hashlib.sha256(np.ascontiguousarray(voxels.astype("<f4")).tobytes()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file; of a folder, of its files in the order of their names."""
    digest = hashlib.sha256()
    for each in sorted(path.iterdir()) if path.is_dir() else [path]:
        if each.is_file():
            with each.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
