"""Text on a figure: numbers, names, and what there is to say about a map."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsal.outputs import Activation, Index
from medsal.regions import Region
from medsal.targets import ClassScore, Difference

if TYPE_CHECKING:
    from medsal.view.planes import Focus, Grid, Plane
    from medsal.view.scene import Scene

RESEARCH = "Research use: not a diagnosis"
EMPTY = "empty map: no positive evidence"
UNSEEN = "outside what the network saw"
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"
_SUPERSCRIPT = str.maketrans(MINUS + "0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float) -> str:
    """A number with three digits, and with a power of ten where that reads better."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return text.replace("-", MINUS)
    mantissa, power = f"{value:.2e}".split("e")
    return f"{float(mantissa):g}{TIMES}{power_of_ten(int(power))}".replace("-", MINUS)


def span(low: float, high: float) -> str:
    """A range of numbers: "0.2 to 3.1"."""
    return f"{number(low)} to {number(high)}"


def power_of_ten(power: int) -> str:
    """Power of ten as text: "10⁻⁵"."""
    return "10" + f"{power}".replace("-", MINUS).translate(_SUPERSCRIPT)


def tenth(value: float) -> str:
    """A length or coordinate with one decimal and a true minus sign."""
    return f"{round(float(value), 1) + 0.0:.1f}".replace("-", MINUS)


def named(thing: Any) -> str:
    """A value as it was asked for: its class and the options that differ from the default.

    The bare name of a function or of an object without a repr.
    """
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        options = [
            f"{field.name}={getattr(thing, field.name)!r}"
            for field in dataclasses.fields(thing)
            if field.repr and repr(getattr(thing, field.name)) != repr(field.default)
        ]
        return f"{type(thing).__name__}({', '.join(options)})" if options else type(thing).__name__
    text = repr(thing)
    if text.startswith("<"):
        return str(getattr(thing, "__qualname__", type(thing).__name__))
    return text


def place(focus: Focus, grid: Grid) -> str:
    """Where a point is: RAS mm, or the indices of the array."""
    if grid.known:
        return f"RAS ({', '.join(tenth(x) for x in focus.place)}) mm"
    indices = ", ".join(str(i) for i in focus.voxel[: grid.axes])
    return f"{grid.unit} ({indices})" if grid.axes > 1 else f"sample {indices}"


def caption(plane: Plane, focus: Focus, grid: Grid) -> tuple[str, str]:
    """Name and position of a plane: ("AXIAL", "z = 8.0 mm · slice 15 of 25")."""
    if grid.unit == "pixel":
        return "PICTURE", f"{grid.shape[plane.across]} {TIMES} {grid.shape[plane.vertical]} pixels"
    return plane.name.upper(), " · ".join(filter(None, position(plane, focus, grid)))


def position(plane: Plane, focus: Focus, grid: Grid) -> tuple[str, str]:
    """Where a plane lies [mm], and which slice it is; empty where there is no such thing."""
    where = f"{'xyz'[plane.normal]} = {tenth(focus.place[plane.normal])} mm" if grid.known else ""
    if grid.axes == 2:
        return where, ""
    count, index = grid.shape[plane.normal], focus.voxel[plane.normal]
    if not grid.known:
        return "", f"slice {index + 1} of {count} of axis {plane.normal}"
    if grid.flipped[plane.normal]:
        index = count - 1 - index
    return where, f"slice {index + 1} of {count}"


def convention(grid: Grid, planes: tuple[Plane, ...], radiological: bool) -> str:
    """The convention of the figure."""
    if grid.unit == "pixel" or grid.axes == 1:
        return ""
    if not grid.known:
        return "voxel axes, orientation unknown"
    if all(plane.across != 0 for plane in planes):
        return ""
    if radiological:
        return "radiological: image left = patient right"
    return "neurological: image left = patient left"


def heading(scene: Scene) -> str:
    """How the map was asked: method, target, model, layer and the size of its cells."""
    of = f"predicted {scene.target}" if scene.predicted else scene.target
    parts = [f"{method(scene)} of {of}", scene.model, _layer(scene)]
    return " · ".join(filter(None, parts))


def asked(scene: Scene) -> str:
    """The method and its layer: maps of which this is the same compare on one scale."""
    return " · ".join(filter(None, (method(scene), _layer(scene))))


def method(scene: Scene) -> str:
    """The method and its options; its layer has words of its own."""
    return re.sub(r"\(layer=None\)|layer=None, |, layer=None", "", scene.method)


def _layer(scene: Scene) -> str:
    if not scene.layer:
        return ""
    return f"layer {scene.layer}" + (f", {scene.cells}" if scene.cells else "")


def explained(thing: Any, classes: Sequence[str]) -> str:
    """A target in words: "class 2 (ring), softmax", "largest component of class 1, 812 voxels".

    One of the caller's own is called as it is named.
    """
    if isinstance(thing, Difference):
        a, b = explained(thing.a, classes), explained(thing.b, classes)
        return f"{a} {MINUS} ({b})" if isinstance(thing.b, Difference) else f"{a} {MINUS} {b}"
    if isinstance(thing, ClassScore):
        return class_name(thing.index, classes) + _activated(thing.activation)
    if isinstance(thing, Region):
        which = f"{_part(thing)} of {class_name(thing.channel, classes)}"
        return which + _extent(thing) + _activated(thing.activation)
    return class_name(thing, classes) if isinstance(thing, int) else named(thing)


def class_name(index: Index, classes: Sequence[str]) -> str:
    """A class, or one per sample, with the names that are known: "class 2 (ring)"."""
    indices = (index,) if isinstance(index, int) else tuple(index)
    known = [f"{i} ({classes[i]})" if 0 <= i < len(classes) else f"{i}" for i in indices]
    return f"{'class' if len(known) == 1 else 'classes'} {', '.join(known)}"


def _activated(activation: Activation) -> str:
    return "" if activation == "none" else f", {activation}"


def _part(region: Region) -> str:
    if region.voxel is not None:
        return f"voxel {tuple(region.voxel)}"
    if region.component is None:
        return "region"
    if region.component == "largest":
        return "largest component"
    return f"component at {tuple(region.component)}"


def _extent(region: Region) -> str:
    if region.mask is None or region.voxel is not None:
        return ""
    count = int(region.mask.count_nonzero())
    return f", {count} voxel{'' if count == 1 else 's'}"


def peak(scene: Scene, focus: Focus) -> str:
    """The value and place of the peak, and of the point shown where it is another."""
    grid, words = scene.grid, ""
    if scene.peak is not None:
        at = grid.at(np.asarray(scene.peak))
        words = f"Peak {number(scene.value(at))} at {place(at, grid)}"
        if at.voxel == focus.voxel:
            return words
    here = f"shown: {place(focus, grid)}, value {number(scene.value(focus))}"
    return f"{words} · {here}" if words else here[0].upper() + here[1:]


def geometry(grid: Grid, own: bool) -> str:
    """How the planes lie, and whether they are the scan's own or those of the network's input."""
    if grid.unit == "pixel" or grid.axes == 1:
        return ""
    words = "the scan's own voxel planes, not resampled"
    if not own:
        words = "the network's input in its own voxel planes; result.home() lies on the scan"
    if not grid.known:
        words = "the image's own voxel planes, not resampled"
    elif grid.obliquity > 0.1:
        words += f"; oblique by {grid.obliquity:.1f} degrees: letters name the closest direction"
    if grid.known and grid.shear > 0.1:
        words += f"; a sheared grid ({grid.shear:.1f} degrees) drawn with right angles"
    return words


def cell_size(
    cells: tuple[int, ...] | None,
    known: tuple[float, ...] | None,
    grid: Grid,
    seen: NDArray[np.bool_] | None,
    homed: bool,
) -> str:
    """The grid of the layer and the size of a cell: "3 x 3 x 3 cells of 51 x 62 x 54 mm".

    On the scan's own grid the axes may stand in another order than the network's, and parts of
    the scan may not have been seen; then the mean edge is given.
    """
    if not cells:
        return ""
    unit = "mm" if grid.known else "samples" if grid.axes == 1 else f"{grid.unit}s"
    count = f" {TIMES} ".join(str(n) for n in cells)
    if known:
        widths = list(dict.fromkeys(number(mm) for mm in known))
        each = widths if len(widths) == 1 else [number(mm) for mm in known]
        return f"{count} cells of {f' {TIMES} '.join(each)} mm"
    whole = seen is None or bool(seen.all())
    if whole and len(cells) == grid.axes and not (homed and len(set(cells)) > 1):
        extent = grid.zooms * grid.shape
        sizes = {axis: extent[k] for k, axis in enumerate(grid.order)}
        each = [number(sizes[axis] / n) for axis, n in enumerate(cells)]
        return f"{count} cells of {f' {TIMES} '.join(each)} {unit}"
    share = 1.0 if seen is None else float(seen.mean())
    volume = float(np.prod((grid.zooms * grid.shape)[list(np.argsort(grid.order))][: grid.axes]))
    edge = (volume * share / math.prod(cells)) ** (1 / grid.axes)
    return f"{count} cells of about {number(edge)} {unit}"


def file_name(path: str | None) -> str:
    """The last part of a path, "scan" where there is none."""
    return (PurePath(path).name if path else "") or "scan"
