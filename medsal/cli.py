"""The command line: `medsal demo`, `explain`, `methods`, `layers`, `overlay`.

Exit status 0, or 2 with one line on stderr for bad input.
"""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsal.terminal import as_class, as_option, load, progress, say_files, say_peak, say_prediction

if TYPE_CHECKING:
    from medsal.monai import Bundle
    from medsal.result import SaliencyMap
    from medsal.scan import Scan

app = typer.Typer(
    name="medsal",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Where in a scan did the network look? Saliency maps on the scan's own grid.",
)

BundlePath = Annotated[
    Path,
    typer.Argument(help="Folder of a MONAI bundle: configs/inference.json and models/model.pt."),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1; the default is a GPU where there is one.")
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "medsal_demo"
    ),
    device: Device = None,
) -> None:
    """Explain a brain scan that comes with medsal: three methods, no network needed.

    A trained 3D network says which kind of lesion the scan holds; the lesion's true place is known.
    """
    from medsal.demo import BUNDLE, SCAN
    from medsal.demo.truth import lesion_distance
    from medsal.monai import load_bundle
    from medsal.scan import read

    methods = ("gradcam", "guided_backprop", "guided_gradcam")
    with progress(len(methods) + 1, "medsal demo") as step:
        bundle = load_bundle(BUNDLE, device)
        scan = read(SCAN)
        step()
        results, files = _explain_scan(
            bundle, scan, [(name, {}) for name in methods], [None], out, step
        )
    say_prediction(bundle, scan, results[0])
    for result in results:
        edge, centre = lesion_distance(result.peak_mm())
        where = "in the lesion" if edge == 0 else f"{edge:.1f} mm from the lesion"
        say_peak(bundle, scan, result, f", {where}, {centre:.1f} mm from its centre")
    say_files(out, files)
    typer.echo("A map shows where the network looked, not what is there. Research use only.")


@app.command()
def explain(
    bundle: BundlePath,
    scans: Annotated[
        list[Path],
        typer.Argument(
            help="NIfTI, NRRD, MHA, a DICOM folder, or PNG/JPEG for a 2D network; one or more."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the results; made if it is missing.")
    ],
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="How to explain, see 'medsal methods'; may be repeated. [default: gradcam]"
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Class to explain, number or name; may be repeated. [default: the predicted]"
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Layer to look at, see 'medsal layers'. [default: the last one with a grid]"
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Option of the method as KEY=VALUE; may be given several times."),
    ] = None,
    device: Device = None,
) -> None:
    """Explain scans: maps on each scan's own grid, slices as PNG, and how they were made."""
    from medsal.methods import METHODS, get_method, options_of
    from medsal.scan import read

    options = dict(as_option(each) for each in option or [])
    names = method or ["gradcam"]
    for name in names:
        get_method(name, **options)
    layered = {
        name: {"layer": layer} if layer and "layer" in options_of(METHODS[name]) else {}
        for name in names
    }
    if layer and not any(layered.values()):
        raise ValueError(f"{', '.join(names)} looks at no layer; leave out --layer {layer}")
    if len(scans) > 1:
        _check_names(scans)
    with progress(len(scans) * (len(names) + 1) + 1, "medsal explain") as step:
        loaded = load(bundle, device)
        targets: list[Any] = [as_class(each, loaded) for each in target or []] or [None]
        step()
        for path in scans:
            scan = read(path, channels=loaded.channels)
            step()
            asked = [(name, {**layered[name], **options}) for name in names]
            results, files = _explain_scan(loaded, scan, asked, targets, out, step)
            say_prediction(loaded, scan, results[0])
            for result in results:
                say_peak(loaded, scan, result)
            say_files(out, files)


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
            [layer.shape]
            if layer.shape
            else [f"[{i}] {part}" for i, part in enumerate(layer.parts)]
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
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.exists() and out.read_text(encoding="utf-8", errors="replace") != text:
        raise ValueError(f"{out} holds something else and is not written over; choose another name")
    out.write_text(text, encoding="utf-8")
    typer.echo(
        "run it in the bundle's folder: python -m monai.bundle run --config_file "
        f"\"['configs/inference.json','{out.resolve()}']\" --bundle_root ."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; for bad input exit with 2 and one line on stderr."""
    # MONAI warns and logs of its own affairs in every run; medsal's warnings are in the notes.
    warnings.simplefilter("ignore")
    logging.getLogger("monai").setLevel(logging.ERROR)
    try:
        status = app(args=arguments, standalone_mode=False)
    except typer.TyperException as error:
        # Called without a command, the message is the help itself: leave its lines alone.
        typer.echo(
            error.format_message()
            if type(error).__name__ == "NoArgsIsHelpError"
            else _line(error.format_message()),
            err=True,
        )
        status = 2
    except (ValueError, LookupError, TypeError, OSError) as error:
        typer.echo(_line(str(error)), err=True)
        status = 2
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("medsal: stopped; nothing was left half written", err=True)
        status = 130
    sys.exit(status or 0)


def _line(message: str) -> str:
    return f"medsal: {' '.join(message.split())}"


def _explain_scan(
    bundle: "Bundle",
    scan: "Scan",
    asked: Sequence[tuple[str, dict[str, Any]]],
    targets: list[Any],
    out: Path,
    step: Callable[[], None],
) -> "tuple[list[SaliencyMap], list[Path]]":
    """All maps of one scan, on the scan's grid, written together or not at all."""
    from medsal.export import save_case

    image = bundle.prepare(scan)
    results: list[SaliencyMap] = []
    for name, options in asked:
        found = bundle.explain(
            scan, targets if len(targets) > 1 else targets[0], name, image=image, **options
        )
        # The image is the same for every method: its place is checked once.
        results.append(found.home(check=not results))
        step()
    return results, save_case(results, scan, out, classes=bundle.classes)


def _check_names(scans: Sequence[Path]) -> None:
    """Two scans of one name would write over each other's results."""
    from medsal.scan import read

    names: dict[str, Path] = {}
    for path in scans:
        name = read(path).name
        if name in names:
            raise ValueError(
                f"{names[name]} and {path} have the same name; explain them into different folders"
            )
        names[name] = path


if __name__ == "__main__":
    main()
