"""The report: one HTML file that needs no network."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import metadata
from io import BytesIO
from string import Template
from typing import Any

import numpy as np

from medsal.result import SaliencyMap
from medsal.view import words
from medsal.view.compare import compare
from medsal.view.plan import statements
from medsal.view.report.entries import Entry, gather
from medsal.view.report.tables import flatten, provenance_tables, table
from medsal.view.report.viewer import lay_viewer, niivue_script, page_text
from medsal.view.sheet import fill_page

DPI = 110
MOST = 8  # maps that have a picture of their own; more are shown a method at a time


@dataclass(frozen=True)
class Interactive:
    """A report that shows itself in a notebook, in a frame of its own; it needs no extension."""

    html: str
    height: int = 940

    def __repr__(self) -> str:
        return f"Interactive({len(self.html) / 1e6:.1f} MB, shown by a notebook)"

    def _repr_html_(self) -> str:
        page = escape(self.html)
        style = f"width:100%;height:{self.height}px;border:0"
        frame = 'sandbox="allow-scripts" title="medsal: interactive viewer"'
        return f'<iframe {frame} style="{style}" srcdoc="{page}"></iframe>'


def report(
    results: SaliencyMap | Sequence[SaliencyMap],
    *,
    provenance: Sequence[Mapping[str, Any]] = (),
    classes: Sequence[str] = (),
    checks: Mapping[str, Any] | None = None,
    title: str | None = None,
    notebook: bool = False,
) -> str:
    """Maps of one case as one HTML file: pictures, an interactive viewer, values, provenance.

    It needs no network and lets no script run but its own. The pictures come first, so that it
    prints and works without WebGL. Maps of one method share a scale.

    Args:
        results: maps of one sample on one grid.
        provenance: how each map was made, in the order of results and targets; see
            `medsal.export.sidecar`.
        classes: the names of the model's classes.
        checks: figures of sanity checks and faithfulness, nested as JSON is.
        title: None = the file's name.
        notebook: the viewer comes first.

    Raises:
        ValueError: no result, or several samples in one.
    """
    results = [results] if isinstance(results, SaliencyMap) else list(results)
    entries = gather(results, classes, title)
    first = entries[0].drawing
    viewer, data = lay_viewer(entries)
    kind = ["signal", "picture", "volume"][first.scene.grid.axes - 1]
    style, script = page_text("report.css"), page_text("report.js")
    hashes = [_hash(script), *([_hash(niivue_script()[1])] if kind == "volume" else [])]
    return Template(page_text("report.html")).substitute(
        kind=f"{kind} notebook" if notebook else kind,
        policy=escape(_policy(hashes if viewer else [], style)),
        version=metadata.version("medsal"),
        title=escape(first.title),
        style=style,
        summary=escape(_summary(entries)),
        pictures="\n".join(_pictures(results, entries, classes)),
        viewer=viewer,
        maps=_values(entries),
        notes=_notes(entries),
        checks=_checks(checks),
        provenance=_provenance(provenance, entries),
        credit=_credit() if kind == "volume" else "",
        data=f"{data}\n<script>{script}</script>" if viewer else "",
    )


def _summary(entries: Sequence[Entry]) -> str:
    shown = entries[0].drawing.scene
    methods = list(dict.fromkeys(each.method for each in entries))
    targets = list(dict.fromkeys(each.target for each in entries))
    parts = [
        f"Where {shown.model or 'the network'} looked",
        f"methods: {', '.join(methods)}",
        f"targets: {', '.join(targets)}",
    ]
    return " · ".join(parts)


def _pictures(
    results: Sequence[SaliencyMap], entries: Sequence[Entry], classes: Sequence[str]
) -> Iterator[str]:
    """A figure for each map; of many maps, one for each result."""
    if len(entries) > MOST:
        for each in results:
            figure = compare(each, classes=classes, title=entries[0].drawing.title)
            said = f"{words.named(each.method)}: {len(each.targets)} targets on one scale"
            yield _figure(figure, said, said)
        return
    for entry in entries:
        lines = statements(entry.drawing)
        figure = fill_page(entry.drawing)
        kind = "Slices" if entry.drawing.scene.grid.axes == 3 else "The image"
        alt = f"{kind} with the map over it, {entry.name}. {'. '.join(lines)}."
        yield _figure(figure, alt, f"{entry.name}: {'; '.join(lines)}")


def _figure(figure: Any, alt: str, caption: str) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor=figure.get_facecolor())
    text = b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{text}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _values(entries: Sequence[Entry]) -> str:
    """The raw range and the peak of each map, to the last digit."""
    rows = []
    for entry in entries:
        shown, shade = entry.drawing.scene, entry.drawing.shade
        peak = None if shown.peak is None else shown.grid.at(np.asarray(shown.peak))
        rows.append(
            (
                entry.name,
                f"{shown.low:.9g}",
                f"{shown.high:.9g}",
                "empty map: no positive evidence" if peak is None else f"{shown.value(peak):.9g}",
                "none" if peak is None else words.place(peak, shown.grid),
                words.span(shade.bottom, shade.top),
            )
        )
    head = ("map", "smallest raw value", "largest raw value", "peak", "at", "colours")
    methods = len({entry.method for entry in entries})
    said = "maps of one method share a scale" + (
        "; methods differ in their units" if methods > 1 else ""
    )
    return table(head, rows, f"Raw values, not rescaled; {said}")


def _notes(entries: Sequence[Entry]) -> str:
    notes = dict.fromkeys(note for entry in entries for note in entry.drawing.scene.notes)
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""


def _checks(checks: Mapping[str, Any] | None) -> str:
    """A table, or one for each part where all are tables themselves."""
    if not checks:
        return ""
    parts = checks if all(isinstance(each, Mapping) for each in checks.values()) else {"": checks}
    said = "Sanity checks and faithfulness"
    inner = "\n".join(
        table(("check", "value"), list(flatten(part)), f"{said}: {name}" if name else said)
        for name, part in parts.items()
    )
    title = '<h2 id="checks-title">Checks</h2>'
    return f'<section id="checks" aria-labelledby="checks-title">\n{title}\n{inner}\n</section>'


def _provenance(sidecars: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> str:
    if not sidecars:
        return ""
    inner = provenance_tables(sidecars, [entry.name for entry in entries])
    title = '<h2 id="provenance-title">Provenance</h2>'
    name = "provenance"
    return f'<section id="{name}" aria-labelledby="{name}-title">\n{title}\n{inner}\n</section>'


def _credit() -> str:
    """The licence of the viewer, which goes where the viewer goes."""
    said = "The viewer is niivue 0.69.0, BSD 2-Clause licence"
    text = escape(page_text("LICENSE.niivue.txt"))
    return f"<details><summary>{said}</summary>\n<pre>{text}</pre></details>"


def _policy(hashes: Sequence[str], style: str) -> str:
    """Nothing may load or run but what stands in the file."""
    scripts = " ".join(f"'{each}'" for each in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src '{_hash(style)}'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()
