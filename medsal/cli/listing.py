"""`medsal methods`, `layers`, `overlay` and `slicer`: what there is."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from medsal.cli.app import BundlePath, Device, app
from medsal.cli.terminal import load


@app.command()
def methods() -> None:
    """List the methods, with their options and sources."""
    from medsal.methods import METHODS, options_of

    for name, method in METHODS.items():
        typer.echo(f"{name}")
        typer.echo(f"    {(method.__doc__ or '').strip().splitlines()[0]}")
        typer.echo(f"    options: {', '.join(options_of(method)) or 'none'}")
        typer.echo(f"    source: {method.source}")


@app.command()
def layers(
    bundle: BundlePath,
    scan: Annotated[
        Path | None,
        typer.Argument(
            help="Shapes for this scan; the default is an empty image of the bundle's size."
        ),
    ] = None,
    device: Device = None,
) -> None:
    """List a network's layers with the shapes that they put out; the default is marked with *."""
    from medsal.scan import read

    loaded = load(bundle, device)
    image = loaded.prepare(read(scan, channels=loaded.channels)) if scan else loaded.blank()
    typer.echo(f"for an image of {tuple(image.shape)}; * = the default")
    for layer in loaded.layers(image):
        shapes = (
            [layer.shape] if layer.shape else [f"{part} {shape}" for part, shape in layer.parts]
        )
        mark = "*" if layer.default else " "
        typer.echo(f"{mark} {layer.name:<48} {layer.kind:<20} {' '.join(map(str, shapes))}")


@app.command()
def overlay(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; the default is to print it.")
    ] = None,
) -> None:
    """Print the config that adds saliency to the inference of any MONAI bundle.

    python -m monai.bundle run --config_file "['BUNDLE/configs/inference.json','saliency.json']"
    """
    text = (resources.files("medsal") / "monai/saliency.json").read_text(encoding="utf-8")
    if not _written(text, out):
        return
    typer.echo(
        "run it in the bundle's folder: python -m monai.bundle run --config_file "
        f"\"['configs/inference.json','{Path(str(out)).resolve()}']\" --bundle_root ."
    )


@app.command("slicer")
def slicer_script(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; the default is to print it.")
    ] = None,
) -> None:
    """Print the script that shows NIfTI maps in 3D Slicer; a .mrb opens without it.

    Slicer --python-script view_in_slicer.py SCAN MAP [MAP ...]
    """
    script = resources.files("medsal") / "export/slicer/view_in_slicer.py"
    if _written(script.read_text(encoding="utf-8"), out):
        typer.echo(f"run it: Slicer --python-script {out} SCAN MAP [MAP ...]")


def _written(text: str, out: Path | None) -> bool:
    """Whether a text went into a file; without one it is printed."""
    if out is None:
        typer.echo(text, nl=False)
        return False
    if out.exists() and out.read_text(encoding="utf-8", errors="replace") != text:
        raise ValueError(f"{out} holds something else and is not written over; choose another name")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    return True
