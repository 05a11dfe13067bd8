"""Where maps are written: a folder for each scan, under one output folder."""

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

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
