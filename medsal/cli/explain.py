"""`medsal demo` and `medsal explain`: from scans to files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsal.cli.again import explain_again
from medsal.cli.app import Device, app
from medsal.cli.terminal import (
    as_class,
    as_option,
    load,
    progress,
    say_files,
    say_peak,
    say_prediction,
)

if TYPE_CHECKING:
    from medsal.monai import Bundle
    from medsal.result import SaliencyMap
    from medsal.scan import Scan


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
    bundle: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a MONAI bundle: configs/inference.json and models/model.pt."
        ),
    ] = None,
    scans: Annotated[
        list[Path] | None,
        typer.Argument(
            help="NIfTI, NRRD, MHA, a DICOM folder, or PNG/JPEG for a 2D network; one or more."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the results; made if it is missing."),
    ] = None,
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
    dicom: Annotated[
        bool,
        typer.Option(
            "--dicom",
            help="Of DICOM series, also write DICOM: the hot region as SEG, the map as a "
            "parametric map, pictures.",
        ),
    ] = False,
    from_sidecar: Annotated[
        Path | None,
        typer.Option(
            help="Make the map of this .json again, and say whether it is the same; BUNDLE and "
            "SCAN must be those that it names."
        ),
    ] = None,
    device: Device = None,
) -> None:
    """Explain scans: maps on each scan's own grid, pictures, a report, and how they were made."""
    from medsal.export.dicom import check_installed
    from medsal.methods import METHODS, get_method, options_of
    from medsal.scan import read

    if from_sidecar is not None:
        if method or target or layer or option:
            raise ValueError(
                "the sidecar says method, target, layer and options; leave these out, or "
                "leave out --from-sidecar"
            )
        explain_again(from_sidecar, bundle, scans or [], out, device)
        return
    if bundle is None or not scans or out is None:
        raise ValueError(
            "expected a bundle, a scan and a folder: medsal explain BUNDLE SCAN -o OUT"
        )
    if dicom:
        check_installed()
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
            _check_dicom(scan, dicom)
            step()
            asked = [(name, {**layered[name], **options}) for name in names]
            # Scans of one folder do not write over each other's reports.
            report = "report.html" if len(scans) == 1 else f"{scan.name}_report.html"
            results, files = _explain_scan(loaded, scan, asked, targets, out, step, report)
            files += _save_dicom(loaded, scan, results, out) if dicom else []
            say_prediction(loaded, scan, results[0])
            for result in results:
                say_peak(loaded, scan, result)
            say_files(out, files)


def _explain_scan(
    bundle: "Bundle",
    scan: "Scan",
    asked: Sequence[tuple[str, dict[str, Any]]],
    targets: list[Any],
    out: Path,
    step: Callable[[], None],
    report: str = "report.html",
) -> "tuple[list[SaliencyMap], list[Path]]":
    """All maps of one scan, on the scan's grid, written together or not at all."""
    from medsal.export import save_case
    from medsal.space import home

    image = bundle.prepare(scan)
    results: list[SaliencyMap] = []
    for name, options in asked:
        found = bundle.explain(
            scan, targets if len(targets) > 1 else targets[0], name, image=image, **options
        )
        # The image is the same for every method: its place is checked once.
        results.append(home(found, check=not results, scan=scan))
        step()
    return results, save_case(results, scan, out, classes=bundle.classes, report=report)


def _check_dicom(scan: "Scan", asked: bool) -> None:
    if asked and scan.kind != "dicom":
        raise ValueError(
            f"{scan.path.name} is no DICOM series, to which DICOM objects could refer; leave out "
            "--dicom"
        )


def _save_dicom(
    bundle: "Bundle", scan: "Scan", results: "list[SaliencyMap]", out: Path
) -> list[Path]:
    """DICOM objects beside the other files; a series of pictures is named by its folder."""
    from medsal.export.dicom import save_dicom

    made = save_dicom(results, scan, out, classes=bundle.classes)
    return list(dict.fromkeys(path if path.parent == out else path.parent for path in made))


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
