"""The colours of maps as 3D Slicer reads them: perceptually uniform, the same as on our figures.

A scene brings its tables along. The two halves of the figures' diverging colours are one for what
speaks for the target and one for what speaks against it, both dark at 0.
"""

from pathlib import Path

import numpy as np

from medsal.export.slicer.mrml import COLOURS
from medsal.view.colour import shade
from medsal.view.scale import Scale

TABLES = {
    "medsal": "saliency: inferno, from 0",
    "medsal for": "saliency that speaks for the target, from 0",
    "medsal against": "saliency that speaks against the target, from 0",
}
"""Name of a table -> what it is for."""

# Of hot regions, for and against their targets: Okabe and Ito's colours, told apart by everyone.
FOR = ((0.90, 0.62, 0.0), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65), (0.94, 0.89, 0.26))
AGAINST = (0.34, 0.71, 0.91)


def table_of(sign: int, signed: bool) -> str:
    """The name of the table for one sign of a map."""
    return "medsal" if not signed else "medsal for" if sign > 0 else "medsal against"


def write_table(path: Path, name: str) -> None:
    """Write a table as ``.ctbl``."""
    scale = Scale(1.0, signed=name != "medsal")
    colours = shade(0.0, 1.0, scale, threshold=None, opacity=1.0, cmap=None).colours()
    start, end = {"medsal": (0.0, 1.0), "medsal for": (0.5, 1.0), "medsal against": (0.5, 0.0)}[
        name
    ]
    values = np.asarray(colours(np.linspace(start, end, COLOURS)))
    rows = np.rint(values * 255).astype(int).tolist()
    lines = [f"{i} {i} {r} {g} {b} 255" for i, (r, g, b, _) in enumerate(rows)]
    path.write_text("\n".join([f"# {name}: {TABLES[name]}", *lines, ""]), encoding="ascii")
