"""Files that appear together or not at all."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stage:
    """A hidden folder beside the target, in which files are made before they are moved there."""

    folder: Path
    target: Path

    def path(self, name: str) -> Path:
        """Where to write a file that will have this name."""
        return self.folder / name


@contextmanager
def staged(target: Path, keep: Iterable[Path] = ()) -> Iterator[Stage]:
    """Write files beside ``target`` (a folder, made if missing) and move them in at the end.

    After an exception nothing is left of them, nor of folders that were made for them.

    Args:
        target: the folder.
        keep: files that must not be written over: the scans that came in.

    Raises:
        ValueError: when ``target`` is a file, or a file to keep would be written over.
    """
    undo = _make_folder(target)
    folder = Path(tempfile.mkdtemp(prefix=".medsal-", dir=target))
    try:
        yield Stage(folder, target)
        made = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        for path in made:
            _check_keeps(target / path, keep)
        for path in made:
            (target / path).parent.mkdir(exist_ok=True)
            (folder / path).replace(target / path)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        undo()
        raise
    shutil.rmtree(folder)


def _make_folder(target: Path) -> Callable[[], None]:
    """Make the folder; returns what takes back the part of it that was made."""
    missing = [each for each in (target, *target.parents) if not each.exists()]
    if any(each.exists() and not each.is_dir() for each in (target, *target.parents)):
        raise ValueError(f"expected a folder to write to, got {target}, which leads over a file")
    target.mkdir(parents=True, exist_ok=True)

    def undo() -> None:
        for each in missing:
            if each.is_dir() and not any(each.iterdir()):
                each.rmdir()

    return undo


def _check_keeps(path: Path, keep: Iterable[Path]) -> None:
    for source in keep:
        if path.exists() and source.exists() and path.samefile(source):
            raise ValueError(
                f"{path} is the scan that came in and is not written over; choose another folder"
            )
