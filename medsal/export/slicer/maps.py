"""From results to what a scene shows."""

from collections.abc import Sequence
from pathlib import Path

from medsal.export.hot import SHARE
from medsal.export.names import description, label
from medsal.export.sidecar import as_json, sidecar
from medsal.export.slicer.scene import Shown
from medsal.result import SaliencyMap
from medsal.scan import KINDS


def check_placed(result: SaliencyMap) -> None:
    """Refuse what has no place in a patient.

    Raises:
        ValueError: for signals and pictures.
    """
    if result.data.ndim < 4:
        raise ValueError(
            "a signal of one axis has no place in a patient, so there is no scene of it; save it "
            "as a figure: result.save('map.png')"
        )
    if is_picture(result):
        raise ValueError(
            "a picture has no place in a patient, so there is no scene of it; save it as a figure "
            "or a volume: result.save('map.png'), result.save('map.nii.gz')"
        )


def is_picture(result: SaliencyMap) -> bool:
    """Whether one sample came from a PNG, JPEG or the like."""
    path = result.origins[0].path
    return path is not None and KINDS.get(Path(path).suffix.lower()) == "picture"


def shown_maps(
    results: Sequence[SaliencyMap],
    name: str,
    classes: Sequence[str] = (),
    share: float = SHARE,
    written: str = "",
) -> list[Shown]:
    """The maps of one scan, a method's targets on one scale.

    Args:
        results: one sample each.
        name: of the scan, with which the names of files begin.
        classes: the names of the model's classes.
        share: of a map's maximum, from which on a voxel is in the hot region.
        written: the grid that the maps are on: ``"scan"`` or ``"network"``.
    """
    found = []
    for result in results:
        # Targets of one method compare; two methods have units of their own.
        top = float(result.data.abs().max()) or 1.0
        for i, target in enumerate(result.targets):
            method, of = description(result.method), label(target, classes)
            found.append(
                Shown(
                    f"{getattr(result.method, 'name', '') or method} of {of}",
                    f"{name}_label-{of}_desc-{method}_saliency",
                    result.data[0, i].cpu().numpy(),
                    top,
                    as_json(sidecar(result, i, classes, written, share)),
                )
            )
    return found
