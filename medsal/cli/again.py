"""`medsal explain --from-sidecar`: the same map again."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from medsal.cli.terminal import load, say_files, say_peak, say_prediction

if TYPE_CHECKING:
    from medsal.export import Recipe


def explain_again(
    sidecar: Path, bundle: Path | None, scans: Sequence[Path], out: Path | None, device: str | None
) -> None:
    """Make a sidecar's map again, write it, and say whether it is the same.

    Sidecars name no folders. A scan or bundle that is not given is looked for beside the sidecar,
    in the working directory and in medsal's demo, and known by its content.
    """
    from medsal.export import read_recipe, save_case
    from medsal.scan import read

    if len(scans) > 1:
        raise ValueError(f"expected the scan of {sidecar.name}, got {len(scans)} scans")
    recipe = read_recipe(sidecar)
    path = scans[0] if scans else _find_scan(recipe)
    recipe.check_scan(path)
    loaded = load(bundle or _find_bundle(recipe), device)
    scan = read(path, channels=loaded.channels)
    result = loaded.explain_again(recipe, scan)
    folder = out or sidecar.parent / "again"
    files = save_case([result.home()], scan, folder, classes=loaded.classes)
    say_prediction(loaded, scan, result)
    say_peak(loaded, scan, result)
    typer.echo(f"  {recipe.compared(result)}")
    say_files(folder, files)


def _places(recipe: "Recipe") -> list[Path]:
    from medsal.demo import BUNDLE, SCAN

    beside = recipe.path.resolve().parent
    return [beside, beside.parent, Path.cwd(), SCAN.parent, BUNDLE.parent]


def _find_scan(recipe: "Recipe") -> Path:
    """A file of the scan's name and content.

    Raises:
        ValueError: when there is none.
    """
    from medsal.export.sidecar import file_hash

    known = recipe.said["Input"]
    for folder in _places(recipe) if known["File"] else ():
        path = folder / str(known["File"])
        if path.exists() and file_hash(path) == known["SHA256"]:
            return path
    raise ValueError(
        f"expected the scan that {recipe.path.name} was made from, {known['File']} with SHA-256 "
        f"{known['SHA256']}; give it: medsal explain --from-sidecar {recipe.path.name} BUNDLE SCAN"
    )


def _find_bundle(recipe: "Recipe") -> Path:
    """A bundle of the sidecar's name; whether its weights are the same is checked later.

    Raises:
        ValueError: when there is none.
    """
    name = str((recipe.said.get("Bundle") or {}).get("Name") or "")
    for folder in _places(recipe) if name else ():
        if (folder / name / "configs").is_dir():
            return folder / name
    raise ValueError(
        f"expected the bundle that {recipe.path.name} was made with"
        f"{f', {name}' if name else ''}; give it: medsal explain --from-sidecar "
        f"{recipe.path.name} BUNDLE SCAN"
    )
