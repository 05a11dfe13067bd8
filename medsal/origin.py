"""What a MetaTensor tells of the scan that it came from, read without importing MONAI."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Origin:
    """Where one sample's image came from.

    Attributes:
        path: the file that came in.
        affine: the file's own grid, ``(4, 4)``, voxel to RAS mm.
        shape: the file's own spatial shape.
    """

    path: str | None = None
    affine: Tensor | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Pipeline:
    """The bundle that a map was made with.

    Attributes:
        name: its folder's name.
        version: as its metadata say.
        preprocessing: its transforms, as JSON holds them.
    """

    name: str
    version: str | None
    preprocessing: Any


def affine_of(image: Tensor) -> Tensor | None:
    """A MetaTensor is known by its affine; MONAI itself is not imported."""
    affine = getattr(image, "affine", None)
    if not isinstance(affine, Tensor):
        return None
    affine = affine.detach().as_subclass(Tensor).double().cpu()
    if affine.ndim == 3 and bool((affine == affine[0]).all()):
        return affine[0]
    return affine


def origins_of(image: Tensor) -> tuple[Origin, ...]:
    """Where each sample came from, as far as the meta data of a MetaTensor tell."""
    meta = getattr(image, "meta", None)
    n = len(image)
    if not isinstance(meta, Mapping):
        return (Origin(),) * n
    paths, affines, shapes = (
        meta.get(key) for key in ("filename_or_obj", "original_affine", "spatial_shape")
    )
    return tuple(
        Origin(
            _path(_entry(paths, i, 0)), _matrix(_entry(affines, i, 2)), _shape(_entry(shapes, i, 1))
        )
        for i in range(n)
    )


def _entry(value: Any, i: int, axes: int) -> Any:
    """The i-th sample's value: batches of MetaTensors hold a list or one axis more."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and axes == 0:
        return value[i] if i < len(value) else None
    array = torch.as_tensor(value) if axes else value
    return array[i] if isinstance(array, Tensor) and array.ndim > axes else array


def _path(value: Any) -> str | None:
    return str(value) if isinstance(value, str | Path) and str(value) else None


def _matrix(value: Any) -> Tensor | None:
    return None if value is None else value.detach().as_subclass(Tensor).double().cpu()


def _shape(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(int(size) for size in value)
