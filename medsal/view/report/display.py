"""Volumes for a browser: a grid that is small enough, whole numbers with a stated step."""

from __future__ import annotations

import gzip
import math
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsal.view.colour import Window
from medsal.view.planes import Grid
from medsal.view.scene import Scene

Array = NDArray[Any]
VOXELS = 4_300_000  # of a volume that a browser without a graphics card turns in seconds
SCAN_BYTES, MAP_BYTES = 4_500_000, 1_200_000  # compressed; finer steps are kept below these
TINY = 1e-30  # the range of an empty map
LEVEL = 6  # of compression


@dataclass(frozen=True, eq=False)
class Packed:
    """A NIfTI volume, compressed, as text; values lie within half a step of what they stand for."""

    text: str
    step: float


@dataclass(frozen=True, eq=False)
class Display:
    """The grid that is shown: blocks of so many voxels along each turned axis.

    Attributes:
        blocks: (3,) voxels of a block; 1 1 1 = the scan's own voxels.
        affine: (4, 4) index of a block -> RAS mm.
    """

    blocks: tuple[int, int, int]
    affine: Array

    def mean(self, values: Array) -> Array:
        """The mean of each block."""
        means: Array = self._split(values).astype(np.float32).mean(axis=(1, 3, 5))
        return means

    def strongest(self, values: Array) -> Array:
        """The value of largest magnitude of each block: no peak is averaged away."""
        split = self._split(values)
        high, low = split.max(axis=(1, 3, 5)), split.min(axis=(1, 3, 5))
        found: Array = np.where(high >= -low, high, low)
        return found

    def _split(self, values: Array) -> Array:
        """(x, a, y, b, z, c): blocks of a x b x c voxels; the border goes on where one is cut."""
        gaps = [(0, -n % block) for n, block in zip(values.shape, self.blocks, strict=True)]
        if any(gap for _, gap in gaps):
            values = np.pad(values, gaps, mode="edge")
        parts = zip(values.shape, self.blocks, strict=True)
        return values.reshape([size for n, block in parts for size in (n // block, block)])


def display_grid(grid: Grid, voxels: int) -> Display:
    """At most so many voxels, those axes first whose voxels are the finest."""
    blocks = [1, 1, 1]
    while math.prod(-(-n // b) for n, b in zip(grid.shape, blocks, strict=True)) > voxels:
        sizes = [
            (round(zoom * block, 3), -n)
            for zoom, block, n in zip(grid.zooms, blocks, grid.shape, strict=True)
        ]
        blocks[sizes.index(min(sizes))] += 1
    steps = np.diag([*blocks, 1.0])
    steps[:3, 3] = (np.array(blocks) - 1) / 2
    x, y, z = blocks
    return Display((x, y, z), grid.affine @ steps)


def pack_scan(scene: Scene, window: Window, display: Display) -> Packed:
    """The scan: in 65536 steps, or in 256 around its grey window where that is too much."""
    values = display.mean(np.nan_to_num(scene.image))
    low, high = float(values.min()), float(values.max())
    fine = _pack(values, low, high, np.int16, display.affine)
    if len(fine.text) * 3 / 4 <= SCAN_BYTES:
        return fine
    spare = (window.high - window.low) / 4
    low, high = max(low, window.low - spare), min(high, window.high + spare)
    return _pack(values, low, high, np.uint8, display.affine)


def pack_map(scene: Scene, display: Display) -> Packed:
    """A map's raw values, 0 where the network did not see: 0 and the largest are exact."""
    values = np.nan_to_num(scene.saliency)
    if scene.seen is not None:
        values = np.where(scene.seen, values, 0.0)
    values = display.strongest(values)
    top = max(float(np.abs(values).max()), TINY)
    fine = _pack(values, -top, top, np.int16, display.affine)
    if len(fine.text) * 3 / 4 <= MAP_BYTES:
        return fine
    return _pack(values, -top if values.min() < 0 else 0.0, top, np.uint8, display.affine)


def pack_unseen(scene: Scene, display: Display) -> Packed | None:
    """1 where the network saw nothing of a block; None where it saw all."""
    if scene.seen is None or scene.seen.all():
        return None
    unseen = display.strongest((~scene.seen).astype(np.int8))
    return _pack(unseen, 0.0, 255.0, np.uint8, display.affine)


def pack_plane(page: Array) -> Packed:
    """A map of a 2D image as it lies on the page (rows, columns)."""
    values = np.nan_to_num(page).T[..., None]
    top = max(float(np.abs(values).max()), TINY)
    return _pack(values, -top, top, np.int16, np.eye(4))


def _pack(values: Array, low: float, high: float, kind: Any, affine: Array) -> Packed:
    """Values in even steps from low to high; with low = -high, 0 lies on a step."""
    limits = np.iinfo(kind)
    first = -limits.max if low == -high and limits.min < 0 else limits.min
    even = low < 0 < high and low == -high and limits.min == 0
    count = limits.max - first - even
    step = (high - low) / count if high > low else 1.0
    steps = np.clip(np.rint((values - low) / step), 0, count) + first
    whole = steps.astype(kind)
    data = _header(whole, step, low - first * step, affine) + bytes(4) + whole.tobytes("F")
    packed = gzip.compress(data, LEVEL, mtime=0)
    return Packed(b64encode(packed).decode(), step)


def _header(whole: Array, step: float, intercept: float, affine: Array) -> bytes:
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(whole.shape)
    header.set_data_dtype(whole.dtype)
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm")
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header["scl_slope"], header["scl_inter"] = step, intercept
    block: bytes = header.binaryblock
    return block
