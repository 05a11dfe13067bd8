"""What commands read from a terminal, and what they say on it."""

import ast
import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from medsal.monai import Bundle
    from medsal.result import SaliencyMap
    from medsal.scan import Scan


def as_option(text: str) -> tuple[str, Any]:
    """A method's option from KEY=VALUE; the value as Python reads it, else as text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"expected --option KEY=VALUE, got {text!r}")
    try:
        return key.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key.strip(), value


def as_class(text: str, bundle: "Bundle") -> int:
    """A class by its number or by its name in the bundle's metadata."""
    if text.isdecimal():
        index = int(text)
        if bundle.classes and index >= len(bundle.classes):
            raise LookupError(
                f"{bundle.name} has no class {index}; it has: {_numbered(bundle.classes)}"
            )
        return index
    lower = [name.lower() for name in bundle.classes]
    if text.lower() in lower:
        return lower.index(text.lower())
    near = difflib.get_close_matches(text.lower(), lower, n=2, cutoff=0.4)
    said = f"near it: {', '.join(near)}; " if near else ""
    raise LookupError(
        f"{bundle.name} has no class {text!r}; {said}"
        f"it has: {_numbered(bundle.classes) or 'numbers only'}"
    )


def _numbered(names: Sequence[str]) -> str:
    return ", ".join(f"{i} {name}" for i, name in enumerate(names))


@contextmanager
def progress(steps: int, label: str) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, nothing elsewhere."""
    with typer.progressbar(
        length=steps, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        yield lambda: bar.update(1)


def load(path: Path, device: str | None) -> "Bundle":
    """The bundle; before it runs code of its own, that is said on stderr."""
    from medsal.monai import code_notice, load_bundle

    notice = code_notice(path)
    if notice:
        typer.echo(f"medsal: {notice}", err=True)
    return load_bundle(path, device, trust=True)


def say_prediction(bundle: "Bundle", scan: "Scan", result: "SaliencyMap") -> None:
    """The scan's name, and the class that the network predicts for it."""
    from medsal.outputs import class_logits
    from medsal.view.words import explained

    typer.echo(f"{scan.name}")
    logits = class_logits(result.output)
    if logits is None or logits.shape[1] == 1:
        said = ", ".join(explained(each, bundle.classes) for each in result.targets)
        typer.echo(f"  explained: {said}")
        return
    index = int(logits[0].argmax())
    name = f" ({bundle.classes[index]})" if index < len(bundle.classes) else ""
    probability = float(logits[0].double().softmax(0)[index])
    typer.echo(f"  predicted: class {index}{name}, softmax {probability:.3f}")


def say_peak(bundle: "Bundle", scan: "Scan", result: "SaliencyMap", distance: str = "") -> None:
    """Where each map has its peak, and the notes."""
    from medsal.export import label

    for i, target in enumerate(result.targets):
        x, y, z = result.peak_mm(i)
        place = f"at R {x:.1f} A {y:.1f} S {z:.1f} mm"
        if scan.kind == "picture":
            place = f"at column {x:.0f}, row {y:.0f}"
        method = getattr(result.method, "name", None) or repr(result.method)
        typer.echo(f"  {method} of {label(target, bundle.classes)}: peak {place}{distance}")
    for note in result.notes:
        typer.echo(f"    note: {note}")


def say_files(out: Path, files: Sequence[Path]) -> None:
    """What was written, and where."""
    typer.echo(f"  files in {out}:")
    for path in files:
        typer.echo(f"    {path.name}")
