"""Where maps are written: a folder for each scan, under the output folder of a bundle."""

import inspect
import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

from monai.bundle import ReferenceResolver

from medsal.export.sidecar import file_hash


class Folders:
    """A folder for each scan: those of one name, from different folders, stay apart.

    The folder bears the scan's name. Where another scan has it, from this run or an earlier one,
    the names of the scan's own folders are put before it.

    Args:
        root: under which the folders are.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._owners: dict[str, Path] = {}

    def of(self, path: Path, stem: str) -> Path:
        """The folder for the scan of this path, whose files begin with ``stem``."""
        path = path.resolve()
        digest = file_hash(path) if path.exists() else None
        names = _names(path, stem)
        while not self._fits(name := next(names), path, digest):
            pass
        self._owners[name] = path
        return self.root / name

    def _fits(self, name: str, path: Path, digest: str | None) -> bool:
        if name in self._owners:
            return self._owners[name] == path
        return not _foreign(self.root / name, digest)


def _names(path: Path, stem: str) -> Iterator[str]:
    yield stem
    name = stem
    for parent in path.parents:
        if part := re.sub(r"[^A-Za-z0-9._-]+", "-", parent.name).strip("-."):
            name = f"{part}_{name}"
            yield name
    yield from (f"{stem}-{i}" for i in count(2))


def _foreign(folder: Path, digest: str | None) -> bool:
    """Whether maps of another scan are here: their provenance holds the scan's hash."""
    for sidecar in folder.glob("*_saliency.json"):
        try:
            known = json.loads(sidecar.read_text(encoding="utf-8"))["Input"]["SHA256"]
        except (ValueError, LookupError, TypeError):
            return True
        if known != digest:
            return True
    return False


def output_dir(subfolder: str = "saliency") -> str:
    """The folder for maps of the bundle whose config names this function.

    For configs alone: ``{"_target_": "medsal.monai.output_dir"}``. It is ``subfolder`` of what the
    config calls ``output_dir``; where there is none, of the folder ``eval`` of ``bundle_root``, as
    in most bundles; else of the working directory. A config has no expression for "if there is
    such an id", so the config that is being read is asked.
    """
    resolver = _resolver()
    for name, below in (("output_dir", ""), ("bundle_root", "eval")):
        if resolver is not None and resolver.get_item(name) is not None:
            return str(Path(str(resolver.get_resolved_content(name))) / below / subfolder)
    return subfolder


def _resolver() -> Any:
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, ReferenceResolver):
            return found
        frame = frame.f_back
    return None
