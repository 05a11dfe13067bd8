"""The interactive part of a report: controls, and the volumes that it shows."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from medsal.view import words
from medsal.view.panel import Drawing
from medsal.view.report import display
from medsal.view.report.entries import Entry

PAGE_FILES = Path(__file__).parent / "page"
BYTES = 7_000_000  # of all volumes as text: with pictures and niivue, a file below 12 MB


def lay_viewer(entries: Sequence[Entry]) -> tuple[str, str]:
    """The viewer's part of the page, and its data; nothing for a signal."""
    axes = entries[0].drawing.scene.grid.axes
    if axes == 1:
        return "", ""
    methods = list(dict.fromkeys(entry.method for entry in entries))
    targets = list(dict.fromkeys(entry.target for entry in entries))
    case, packs, hint = _volumes(entries) if axes == 3 else _planes(entries)
    case["maps"] = [
        {
            **_described(entry, packs[f"map{k}"].step, f"map{k}"),
            "method": methods.index(entry.method),
            "target": targets.index(entry.target),
        }
        for k, entry in enumerate(entries)
    ]
    case["colours"] = _colours(entries)
    strongest = max(entries, key=lambda each: _size(each) * (each.method == methods[0]))
    part = Template(page_text("viewer.html")).substitute(
        methods=_options(methods, strongest.method),
        targets=_options(targets, strongest.target),
        hint=escape(hint),
    )
    texts = {name: pack.text for name, pack in packs.items()}
    if axes == 3:
        texts["niivue"] = niivue_script()[0]
    said = json.dumps(case, sort_keys=True, allow_nan=False).replace("<", "\\u003c")
    blocks = [f'<script type="application/json" id="case">{said}</script>']
    blocks += [f'<script type="text/plain" id="{k}">{text}</script>' for k, text in texts.items()]
    return part, "\n".join(blocks)


def _described(entry: Entry, step: float, name: str) -> dict[str, Any]:
    drawing = entry.drawing
    place = [float(x) for x in drawing.focus.place]
    if drawing.scene.grid.axes == 2:
        place = _on_page(drawing)
    return {
        "id": name,
        "name": entry.name,
        "top": drawing.shade.top,
        "signed": drawing.shade.signed,
        "step": step,
        "place": place,
    }


def _volumes(
    entries: Sequence[Entry],
) -> tuple[dict[str, Any], dict[str, display.Packed], str]:
    """The scan and the maps on a grid that keeps the file small."""
    first = entries[0].drawing
    shown, window, voxels = first.scene, first.window, display.VOXELS
    while True:
        grid = display.display_grid(shown.grid, voxels)
        packs = {"scan": display.pack_scan(shown, window, grid)}
        for k, entry in enumerate(entries):
            packs[f"map{k}"] = display.pack_map(entry.drawing.scene, grid)
        unseen = display.pack_unseen(shown, grid)
        if unseen is not None:
            packs["unseen"] = unseen
        if sum(len(pack.text) for pack in packs.values()) <= BYTES or voxels < 10_000:
            break
        voxels //= 2
    width = window.high - window.low
    case = {
        "kind": "volume",
        "known": shown.grid.known,
        "unseen": unseen is not None,
        "scan": {
            "black": window.low,
            "white": window.high,
            "low": max(float(np.nanmin(shown.image)), window.low - width),
            "high": min(float(np.nanmax(shown.image)), window.high + 2 * width),
        },
    }
    return case, packs, _grid_words(grid, shown.grid.known)


def _grid_words(grid: display.Display, known: bool) -> str:
    if grid.blocks == (1, 1, 1):
        return "Shown on the voxels of the maps' own grid, not resampled."
    blocks = f" {words.TIMES} ".join(map(str, grid.blocks))
    axes = "the axes towards right, front, top" if known else "the axes"
    return (
        f"Shown in blocks of {blocks} voxels along {axes}, to keep the file small: the scan's "
        "mean, and of a map the strongest raw value in the block. The pictures show every voxel."
    )


def _planes(
    entries: Sequence[Entry],
) -> tuple[dict[str, Any], dict[str, display.Packed], str]:
    """The picture as it lies on the page, and the maps likewise."""
    from PIL import Image

    first = entries[0].drawing
    plane = first.planes[0]
    page = np.rint(first.window(plane.cut(first.scene.image, 0)) * 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(page).save(buffer, format="PNG")
    uri = "data:image/png;base64," + b64encode(buffer.getvalue()).decode()
    packs = {
        f"map{k}": display.pack_plane(plane.cut(_seen_only(entry.drawing), 0))
        for k, entry in enumerate(entries)
    }
    return {"kind": "picture", "picture": uri}, packs, "Arrow keys move the crosshair by a pixel."


def _seen_only(drawing: Drawing) -> Any:
    shown = drawing.scene
    return shown.saliency if shown.seen is None else np.where(shown.seen, shown.saliency, 0.0)


def _on_page(drawing: Drawing) -> list[float]:
    """Column and row of the focus on the page."""
    plane, shape = drawing.planes[0], drawing.scene.grid.shape
    voxel = drawing.focus.voxel
    column, row = voxel[plane.across], voxel[plane.vertical]
    column = shape[plane.across] - 1 - column if plane.mirrored else column
    row = row if plane.downward else shape[plane.vertical] - 1 - row
    return [float(column), float(row)]


def _size(entry: Entry) -> float:
    return max(entry.drawing.scene.high, -entry.drawing.scene.low)


def _options(names: Sequence[str], chosen: str) -> str:
    return "".join(
        f'<option value="{k}"{" selected" if name == chosen else ""}>{escape(name)}</option>'
        for k, name in enumerate(names)
    )


def _colours(entries: Sequence[Entry]) -> dict[str, Any]:
    """The colours of the pictures, as niivue takes them: 256 of each, the first transparent."""
    import matplotlib as mpl

    names = {entry.drawing.shade.signed: entry.drawing.shade.name for entry in entries}
    steps = np.linspace(0, 1, 256)
    ramps = {}
    if False in names:
        ramps["heat"] = mpl.colormaps[names[False]](steps)
    if True in names:
        ramps["above"] = mpl.colormaps[names[True]](0.5 + steps / 2)
        ramps["below"] = mpl.colormaps[names[True]](0.5 - steps / 2)
    ramps["veil"] = np.full((256, 4), 0.57)
    tables = {}
    for name, ramp in ramps.items():
        red, green, blue = np.rint(ramp[:, :3] * 255).astype(int).T.tolist()
        tables[name] = {
            "R": red,
            "G": green,
            "B": blue,
            "A": [0] + [255] * 255,
            "I": list(range(256)),
        }
    return tables


@lru_cache(maxsize=1)
def niivue_script() -> tuple[str, str]:
    """The viewer's library: compressed as text for the page, and as it runs."""
    packed = (PAGE_FILES / "niivue.umd.js.gz").read_bytes()
    return b64encode(packed).decode(), gzip.decompress(packed).decode()


def page_text(name: str) -> str:
    """A part of the page."""
    return (PAGE_FILES / name).read_text(encoding="utf-8").rstrip("\n")
