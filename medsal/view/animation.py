"""A flight through the slices of a map: a GIF, or a film where ffmpeg is."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import numpy as np
from numpy.typing import NDArray

from medsal.result import SaliencyMap
from medsal.view.film import frames, open_film
from medsal.view.look import Look, choose_plane, draw
from medsal.view.montage import filled, turned_slices
from medsal.view.panel import Drawing
from medsal.view.planes import Plane
from medsal.view.scale import Scale

FADE = 24  # steps of a picture's map that comes and goes
HOLD = 8  # times as long as others, the slice through the peak stays
MOST = 72  # slices that are flown through unless others are asked for
CHOSEN = 12  # frames that the colours of a GIF are chosen from
GREYS, VIVID = 72, 16  # how many of them are grey; and what is not
PHOTO = 0.2  # a larger share of coloured pixels makes a photo, whose colours are mixed of dots

Frames = list[NDArray[np.uint8]]


def animate(
    result: SaliencyMap,
    path: str | Path,
    *,
    plane: str | int | None = None,
    slices: int | Sequence[int] | None = None,
    seconds: float | int = 8,
    dpi: float | int = 100,
    target: int = 0,
    scale: Scale | float | int | str | None = None,
    title: str | None = None,
    **look: Unpack[Look],
) -> Path:
    """Write a flight through the slices of a map, with a rest at its peak.

    Beside the slices stand the two other planes through the peak, with a line where the flight is,
    and the strongest value of each slice. Over a 2D image the map comes and goes.

    Args:
        result: one sample.
        path: ends in ``.gif``, or in ``.mp4`` (needs ffmpeg); its folder must exist.
        plane: the plane that moves, as in `medsal.view.montage`.
        slices: how many, evenly spaced from the first to the last that is not empty; which, as
            indices along the array's own axis; None = all, or 72 of more.
        seconds: how long it takes, apart from the rest at the peak.
        dpi: pixels per inch; a page is some 9 inches wide.
        target: which of the result's targets.
        scale: as in `medsal.view.ortho`.
        title: None = the file's name.
        **look: options that all figures have; see `medsal.view.ortho`.

    Returns:
        The path written to.

    Raises:
        ValueError: another suffix, a signal, slices outside, or an option out of its range.
        LookupError: no ffmpeg for a film; no such plane, target, channel, window or colour map.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ValueError(f"expected a file name that ends in .gif or .mp4, got {path}")
    if suffix == ".mp4" and shutil.which("ffmpeg") is None:
        raise LookupError("found no ffmpeg, which writes .mp4: install it, or write a .gif")
    drawing = draw(result, target=target, scale=scale, title=title, crosshair=False, **look)
    along = choose_plane(drawing.scene.grid, plane, drawing.radiological)
    steps = _steps(drawing, along, slices)
    film = open_film(drawing, along, steps)
    film.page.figure.set_dpi(dpi)  # type: ignore[attr-defined]
    step = seconds / len(steps)
    rests = [HOLD if k == _rest(drawing, along, steps) else 1 for k in range(len(steps))]
    write = _write_gif if suffix == ".gif" else _write_mp4
    write(path, list(frames(film)), [step * rest for rest in rests])
    return path


def _steps(drawing: Drawing, plane: Plane, slices: int | Sequence[int] | None) -> tuple[float, ...]:
    if drawing.scene.grid.axes == 2:
        return tuple(0.5 - 0.5 * math.cos(2 * math.pi * k / FADE) for k in range(FADE))
    if slices is None:
        first, last = filled(drawing, plane)
        slices = min(last - first + 1, MOST)
    return tuple(float(k) for k in turned_slices(drawing, plane, slices))


def _rest(drawing: Drawing, plane: Plane, steps: Sequence[float]) -> int:
    """The step to rest at: through the peak, or the whole map of a picture."""
    wanted = 1.0 if drawing.scene.grid.axes == 2 else float(drawing.focus.voxel[plane.normal])
    return min(range(len(steps)), key=lambda k: abs(steps[k] - wanted))


def _write_gif(path: Path, pictures: Frames, seconds: Sequence[float]) -> None:
    """All frames in one set of colours, so that what stays does not flicker."""
    from PIL import Image

    pixels = np.concatenate(
        [each[::2, ::2].reshape(-1, 3) for each in pictures[:: max(1, len(pictures) // CHOSEN)]]
    )
    vivid = pixels.max(axis=1) - pixels.min(axis=1) > VIVID
    photo = bool(vivid.mean() > PHOTO)
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette(pixels[vivid], GREYS // 3 if photo else GREYS))
    dither = Image.Dither.FLOYDSTEINBERG if photo else Image.Dither.NONE
    drawn = [Image.fromarray(each).quantize(palette=palette, dither=dither) for each in pictures]
    durations = [max(20, round(1000 * each)) for each in seconds]
    drawn[0].save(
        path, save_all=True, append_images=drawn[1:], duration=durations, loop=0, disposal=1
    )


def _palette(vivid: NDArray[np.uint8], greys: int) -> list[int]:
    """Even greys, and the colours that cover what is coloured, however little of it there is."""
    from PIL import Image

    found = np.repeat(np.linspace(0, 255, greys).round().astype(np.uint8), 3).tolist()
    if len(vivid):
        picture = Image.fromarray(np.unique(vivid & 0xFC, axis=0)[None])
        chosen = picture.quantize(256 - greys, method=Image.Quantize.MEDIANCUT)
        found += chosen.getpalette() or []
    return [int(each) for each in found]


def _write_mp4(path: Path, pictures: Frames, seconds: Sequence[float]) -> None:
    rows, columns = (n - n % 2 for n in pictures[0].shape[:2])  # its pixels come in pairs
    rate = 1 / min(seconds)
    command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{columns}x{rows}", "-r", f"{rate:.6f}", "-i", "-"]
    command += ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    data = b"".join(
        np.ascontiguousarray(each[:rows, :columns]).tobytes() * round(rate * rest)
        for each, rest in zip(pictures, seconds, strict=True)
    )
    done = subprocess.run([*command, str(path)], input=data, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(f"ffmpeg could not write {path}: {done.stderr.decode().strip()}")
