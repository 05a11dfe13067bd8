"""`medsal check`: what a method is worth on this network and scan."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsal.cli.app import BundlePath, Device, app
from medsal.cli.terminal import as_class, as_option, load, progress, say_files, say_prediction

if TYPE_CHECKING:
    from medsal.evaluate import Check
    from medsal.monai import Bundle


@app.command()
def check(
    bundle: BundlePath,
    scan: Annotated[Path, typer.Argument(help="NIfTI, NRRD, MHA, a DICOM folder, or PNG/JPEG.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results; made if it is missing.")
    ] = Path("medsal_check"),
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="Method to check, see 'medsal methods'; may be repeated. [default: gradcam]"
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Class to explain, number or name. [default: the predicted]"),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer to look at. [default: the last one with a grid]")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the method as KEY=VALUE; may be given several times."),
    ] = None,
    device: Device = None,
) -> None:
    """Check a method on a network and scan: is its map true of the network?

    Does the map change when the network's weights are random, and for another class; does the score
    follow it? A minute or so for each method. In the folder of 'medsal explain', the results show
    up in its report.
    """
    from medsal.evaluate import stages
    from medsal.methods import METHODS, get_method, options_of
    from medsal.scan import read

    options = dict(as_option(each) for each in option or [])
    names = method or ["gradcam"]
    for name in names:
        get_method(name, **options)
        if layer and "layer" not in options_of(METHODS[name]):
            raise ValueError(f"{name} looks at no layer; leave out --layer {layer}")
    files: list[Path] = []
    checks: list[Check] = []
    with progress(len(names) * stages() + 1, "medsal check") as step:
        loaded = load(bundle, device)
        asked = None if target is None else as_class(target, loaded)
        found = read(scan, channels=loaded.channels)
        image = loaded.prepare(found)
        step()
        for name in names:
            checks.append(
                loaded.check(found, name, asked, layer, image=image, progress=step, **options)
            )
            files += checks[-1].save(out, found.name)
    say_prediction(loaded, found, checks[0].result)
    for each in checks:
        _say(loaded, each)
    say_files(out, files)


def _say(bundle: "Bundle", found: "Check") -> None:
    """The answers, in plain words."""
    from medsal.export import label

    name = getattr(found.result.method, "name", None) or repr(found.result.method)
    passed = "passed" if found.passed else "did not pass all"
    typer.echo(f"  {name} of {label(found.result.targets[0], bundle.classes)}: {passed}")
    for line in found.words().splitlines():
        typer.echo(f"    {line}")
    for note in found.result.notes:
        typer.echo(f"    note: {note}")
