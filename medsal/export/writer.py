"""The files of one map, and of several in one scene."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsal.export.names import description
from medsal.export.page import page
from medsal.export.sidecar import as_json, sidecar
from medsal.export.slicer import (
    SUFFIX,
    hot_segments,
    shown_maps,
    write_scene,
    write_segmentation,
)
from medsal.export.staging import Stage
from medsal.export.volume import VOLUMES, write_volume
from medsal.result import SaliencyMap
from medsal.view import shared_scale

DOTS_PER_INCH = 150
FIGURES = (".png", ".pdf", ".svg")
PAGE = ".html"


@dataclass(frozen=True)
class Writer:
    """Writes maps of one scan into a stage; each verb gives the files as they will be.

    Attributes:
        stage: where to.
        classes: the names of the model's classes.
        written: the grid that the maps are on: ``"scan"`` or ``"network"``.
        share: of a map's maximum, from which on a voxel is in the hot region.
        checks: what `medsal check` found, by "method, target".
    """

    stage: Stage
    classes: Sequence[str]
    written: str
    share: float
    checks: Mapping[str, Any] | None = None

    def map(self, result: SaliencyMap, target: int, name: str, suffix: str) -> list[Path]:
        """One target's map or hot region with its provenance, or the provenance alone."""
        made = []
        stem = name[: -len(suffix)]
        if suffix == SUFFIX:
            made.append(self._hot(result, target, name))
        elif suffix in VOLUMES:
            voxels = result.data[0, target].cpu().numpy()
            said = f"medsal {description(result.method)}"
            path = self.stage.path(name)
            made.append(write_volume(path, voxels, affine_of(result), description=said))
        made.append(self.stage.path(f"{stem}.json"))
        text = as_json(sidecar(result, target, self.classes, self.written, self.share, self.checks))
        made[-1].write_text(text, encoding="utf-8")
        return self._there(made)

    def _hot(self, result: SaliencyMap, target: int, name: str) -> Path:
        (shown,) = shown_maps([result], "", self.classes, self.share)[target : target + 1]
        segments = hot_segments(shown, self.share, target)
        if not segments:
            raise ValueError("the map is empty, so it has no hot region; look at its notes")
        return write_segmentation(self.stage.path(name), segments, affine_of(result))

    def figure(
        self, result: SaliencyMap, target: int, name: str, options: dict[str, Any]
    ) -> list[Path]:
        """One target's figure, on the scale of all targets."""
        options = {"scale": shared_scale(result), "classes": self.classes, **options}
        figure = result.plot(target=target, **options)
        path = self.stage.path(name)
        figure.savefig(path, dpi=DOTS_PER_INCH, facecolor=figure.get_facecolor())
        return self._there([path])

    def scene(self, results: Sequence[SaliencyMap], name: str) -> list[Path]:
        """A scene of maps on one grid over their own image, which is the scan at home."""
        stem = name[: name.rindex(".")]
        maps = shown_maps(results, stem, self.classes, self.share, self.written)
        image = results[0].image[0].detach().float().cpu().numpy()
        path = self.stage.path(name)
        write_scene(
            path, image, affine_of(results[0]), maps, share=self.share, ready=self.stage.folder
        )
        return self._there([path, *sorted(self.stage.path(f"{stem}_data").glob("*"))])

    def page(
        self, results: Sequence[SaliencyMap], name: str, options: dict[str, Any]
    ) -> list[Path]:
        """A report of maps on one grid."""
        path = self.stage.path(name)
        asked = {"share": self.share, "checks": self.checks, **options}
        text = page(results, classes=self.classes, written=self.written, **asked)
        path.write_text(text, encoding="utf-8")
        return self._there([path])

    def _there(self, made: Sequence[Path]) -> list[Path]:
        return [self.stage.target / path.relative_to(self.stage.folder) for path in made]


def affine_of(result: SaliencyMap) -> np.ndarray:
    """The map's affine; without one, where that was asked for, voxels count as mm."""
    if result.affine is None:
        return np.eye(4)
    return np.asarray(result.affine.double().cpu())
