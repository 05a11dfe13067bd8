"""What one figure shows: one sample and one target of a saliency map, turned towards RAS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medsal.origin import Origin
from medsal.result import SaliencyMap
from medsal.targets import ClassScore, Predicted
from medsal.types import Target
from medsal.view.planes import Focus, Grid, patient_grid, plain_grid
from medsal.view.words import cell_size, explained, file_name, named

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Scene:
    """Arrays as turned views, and the words that go with them.

    Attributes:
        saliency: (x, y, z) raw values.
        image: (x, y, z) grey or (x, y, z, 3) colour; for a signal (x, 1, 1, c).
        seen: (x, y, z) whether the network saw the voxel; None = all.
        low: smallest raw value among the voxels seen.
        high: largest raw value among the voxels seen.
        peak: turned index of the largest magnitude; None for an empty map.
        own: the grid is that of the file, not one that transforms made of it.
        predicted: the target is the class that the model predicts.
    """

    grid: Grid
    saliency: Array
    image: Array
    seen: Array | None
    low: float
    high: float
    peak: tuple[int, ...] | None
    own: bool
    name: str
    method: str
    target: str
    predicted: bool
    model: str
    layer: str
    cells: str
    channel: str
    notes: tuple[str, ...]

    def value(self, focus: Focus) -> float:
        """The raw value of the voxel at a point."""
        return float(self.saliency[focus.voxel])


def scene(
    result: SaliencyMap,
    target: int = 0,
    channel: int | None = None,
    rows_first: bool | None = None,
    classes: Sequence[str] = (),
) -> Scene:
    """One sample and one target of a result; classes have the names that are given.

    Raises:
        ValueError: the result holds several samples, or its axes are not 1 to 3.
        LookupError: the result has no such target, the image no such channel.
    """
    _check(result, target)
    grid = _grid(result, rows_first)
    saliency = grid.turn(_numpy(result.data[0, target]))
    seen = None if result.seen is None else grid.turn(_numpy(result.seen[0, 0])).astype(bool)
    low, high, peak, seen = _range(saliency, seen)
    image, words = _image(result.image[0], grid, channel)
    asked = result.targets[min(target, len(result.targets) - 1)]
    layers = result.layer if isinstance(result.layer, tuple) else (result.layer or "",)
    origin = result.origins[0] if result.origins else Origin()
    own = _is_own(result, origin)
    return Scene(
        grid, saliency, image, seen, low, high, peak, own,
        name=file_name(origin.path),
        method=named(result.method),
        target=explained(asked, classes),
        predicted=_is_predicted(asked, result.output),
        model=str(getattr(result.model, "name", "") or ""),
        layer=", ".join(layers),
        cells=cell_size(result.cells, result.cell_mm, grid, seen, own),
        channel=words,
        notes=tuple(result.notes),
    )  # fmt: skip


def _is_predicted(target: Target, output: Any) -> bool:
    """Whether a target is the class with the largest logit; a part of a segmentation never is."""
    if not isinstance(target, ClassScore):
        return False
    return replace(target, activation="none") == Predicted().settled(output)


def _check(result: SaliencyMap, target: int) -> None:
    samples, targets, *shape = result.data.shape
    if samples != 1:
        raise ValueError(f"expected one sample, got {samples}; plot result[i]")
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"expected 1 to 3 spatial axes, got {len(shape)}")
    if not 0 <= target < targets:
        raise LookupError(f"the result has {targets} target(s), 0 to {targets - 1}; got {target}")


def _grid(result: SaliencyMap, rows_first: bool | None) -> Grid:
    shape = tuple(result.data.shape[2:])
    affine = _affine(result.affine)
    if len(shape) == 2 and (affine is None or _is_picture(result, affine)):
        # torch's pictures are (c, rows, columns); MONAI's readers set an affine and give (c, x, y)
        return plain_grid(shape, "pixel", affine is None if rows_first is None else rows_first)
    if affine is None or len(shape) == 1:
        return plain_grid(shape)
    return patient_grid(affine, shape)


def _affine(affine: Tensor | None) -> Array | None:
    """(4, 4), from that or from (1, 4, 4), or from the (3, 3) that 2D readers give."""
    if affine is None:
        return None
    given = _numpy(affine)
    given = given[0] if given.ndim == 3 else given
    if given.shape != (3, 3):
        return given
    whole = np.eye(4)
    whole[:2, :2], whole[:2, 3] = given[:2, :2], given[:2, 2]
    return whole


def _is_picture(result: SaliencyMap, affine: Array) -> bool:
    """A 2D image that lies nowhere in a patient: in colour, or its file gave no affine.

    MONAI's reader of pictures leaves the identity, which later transforms may scale, and no
    original affine; its readers of scans keep the file's own.
    """
    origin = result.origins[0] if result.origins else Origin()
    if result.image.shape[1] == 3 or (origin.path is not None and origin.affine is None):
        return True
    file = affine if origin.affine is None else _numpy(origin.affine)
    return bool(np.array_equal(file, np.eye(len(file))))


def _image(image: Tensor, grid: Grid, channel: int | None) -> tuple[Array, str]:
    """The image, channels last where several are shown, and a word on what is not."""
    count = image.shape[0]
    if channel is not None and not 0 <= channel < count:
        raise LookupError(f"the image has {count} channel(s), 0 to {count - 1}; got {channel}")
    if channel is None and (grid.axes == 1 or (grid.axes == 2 and count == 3)):
        return grid.turn(np.moveaxis(_numpy(image), 0, -1)), ""
    shown = channel or 0
    words = f"channel {shown} of {count} (0 to {count - 1})" if count > 1 else ""
    picked = grid.turn(_numpy(image[shown]))
    return (picked[..., None] if grid.axes == 1 else picked), words


def _range(
    saliency: Array, seen: Array | None
) -> tuple[float, float, tuple[int, ...] | None, Array | None]:
    """Smallest and largest value, the peak, and what was seen: only finite values were."""
    if seen is None and not np.isfinite(saliency.min() + saliency.max()):
        seen = np.isfinite(saliency)
    elif seen is not None:
        seen = seen & np.isfinite(saliency)
    values = saliency if seen is None else np.where(seen, saliency, 0.0)
    if seen is not None and not seen.any():
        return 0.0, 0.0, None, seen
    if seen is None:
        low, high = float(values.min()), float(values.max())
    else:
        low = float(saliency.min(where=seen, initial=np.inf))
        high = float(saliency.max(where=seen, initial=-np.inf))
    if high <= 0:
        return low, high, None, seen
    flat = values.argmax() if high >= -low else values.argmin()
    return low, high, tuple(int(i) for i in np.unravel_index(flat, values.shape)), seen


def _is_own(result: SaliencyMap, origin: Origin) -> bool:
    """The map lies on the grid of the file: brought home, or never moved."""
    if origin.affine is None or result.affine is None:
        return False
    shape = tuple(result.data.shape[2:])
    here, there = (
        _numpy(affine).reshape(-1, *affine.shape[-2:])[0]
        for affine in (result.affine, origin.affine)
    )
    same = here.shape == there.shape and bool(np.allclose(here, there, rtol=1e-4, atol=1e-3))
    return same and (origin.shape is None or tuple(origin.shape[: len(shape)]) == shape)


def _numpy(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
