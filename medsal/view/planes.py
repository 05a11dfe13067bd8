"""Geometry of the slices: flips and permutations towards RAS, extents in mm, orientation letters.

Nothing here interpolates. An array is *turned*: its axes are permuted and flipped so that they run
as closely as possible to Right, Anterior, Superior; every plane shown is a plane of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
POSITIVE, NEGATIVE = "RAS", "LPI"
NAMES = ("sagittal", "coronal", "axial")  # by the patient axis that the plane is normal to


@dataclass(frozen=True)
class Plane:
    """A plane of a turned grid and how it lies on the page: axes `across` and `vertical`."""

    name: str
    normal: int
    across: int
    vertical: int
    mirrored: bool = False  # the index across grows to the left
    downward: bool = False  # the vertical index grows downwards

    def cut(self, volume: Array, index: int) -> Array:
        """Slice `index` of a turned volume (x, y, z, ...): (rows, columns, ...), row 0 on top."""
        lead = (self.vertical, self.across, self.normal)
        rest = tuple(range(3, volume.ndim))
        page = volume.transpose(*lead, *rest)[:, :, index]
        return page[:: 1 if self.downward else -1, :: -1 if self.mirrored else 1]


@dataclass(frozen=True, eq=False)
class Focus:
    """A point of a turned grid: its index (3,), not rounded, and its place (3,) in the unit."""

    index: Array
    place: Array

    @property
    def voxel(self) -> tuple[int, int, int]:
        i, j, k = (int(x) for x in np.floor(self.index + 0.5))
        return i, j, k


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid of 1 to 3 axes, turned to three axes as close to RAS as flips can bring it.

    Attributes:
        shape: (3,) voxels along each turned axis; missing axes are 1 voxel wide.
        affine: (4, 4) turned index -> RAS mm, or the identity where `unit` is not mm.
        order: the array's axis that each turned axis came from.
        flipped: whether the turned axis runs against it.
        axes: how many axes the array has.
        unit: "mm" where the patient's axes are known, else "voxel", or "pixel" for a picture.
        rows_first: a picture's first axis is its rows (row, column), not (x, y).
    """

    shape: tuple[int, int, int]
    affine: Array
    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    axes: int
    unit: str
    rows_first: bool = False

    @property
    def zooms(self) -> Array:
        """(3,) voxel size along each turned axis [unit]."""
        sizes: Array = np.linalg.norm(self.affine[:3, :3], axis=0)
        return sizes

    @property
    def known(self) -> bool:
        return self.unit == "mm"

    @property
    def obliquity(self) -> float:
        """Largest angle between a voxel axis and its closest patient axis [degrees]."""
        cosines = np.abs(np.diag(self.affine)[:3]) / self.zooms
        return float(np.degrees(np.arccos(np.clip(cosines.min(), 0.0, 1.0))))

    @property
    def shear(self) -> float:
        """Largest departure of two voxel axes from a right angle [degrees]."""
        unit = self.affine[:3, :3] / self.zooms
        cosines = np.abs(unit.T @ unit - np.eye(3)).max()
        return float(np.degrees(np.arcsin(np.clip(cosines, 0.0, 1.0))))

    @property
    def codes(self) -> str:
        """Letters to which the axes of the array itself grow, for instance "LAS"."""
        letters = {
            axis: (NEGATIVE if flip else POSITIVE)[k]
            for k, (axis, flip) in enumerate(zip(self.order, self.flipped, strict=True))
        }
        return "".join(letters[axis] for axis in range(self.axes))

    def turn(self, array: Array) -> Array:
        """The array (its `axes` axes first, then any others) as a turned view (x, y, z, ...)."""
        widened = array.reshape(
            *array.shape[: self.axes], *(1,) * (3 - self.axes), *array.shape[self.axes :]
        )
        view = widened.transpose(*self.order, *range(3, widened.ndim))
        return view[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]

    def at(self, index: Array) -> Focus:
        """The point at a turned index (3,)."""
        index = np.asarray(index, dtype=np.float64)
        return Focus(index, self.affine[:3, :3] @ index + self.affine[:3, 3])

    def centre(self) -> Focus:
        """The voxel in the middle."""
        return self.at(np.asarray(self.shape) // 2)

    def find(self, point: Array) -> Focus:
        """The point at RAS mm (3,), or at indices of the array where the unit is not mm.

        Raises:
            ValueError: the point has another number of coordinates, or lies outside the grid.
        """
        point = np.asarray(point, dtype=np.float64)
        count = 3 if self.known else self.axes
        words = "RAS mm" if self.known else f"{self.unit} indices (the map has no affine)"
        if point.shape != (count,) or not np.isfinite(point).all():
            raise ValueError(f"expected a point of {count} {words}, got {point.tolist()}")
        if self.known:
            index = np.linalg.solve(self.affine[:3, :3], point - self.affine[:3, 3])
        else:
            index = np.concatenate([point, np.zeros(3 - count)])
        index = np.where(np.abs(index - np.round(index)) < 1e-6, np.round(index), index)
        if (np.floor(index + 0.5) < 0).any() or (np.floor(index + 0.5) >= self.shape).any():
            raise ValueError(
                f"the point {point.tolist()} lies outside the image, which spans "
                f"{self._span(count)}; give a point inside, or None for the peak"
            )
        return self.at(index)

    def edges(self, axis: int, focus: Focus) -> tuple[float, float]:
        """Outer faces of the grid along a turned axis [unit], exact on the line through focus."""
        zoom, start = self.zooms[axis], focus.place[axis]
        low = start + (-0.5 - focus.index[axis]) * zoom
        return float(low), float(low + self.shape[axis] * zoom)

    def extent(self, plane: Plane, focus: Focus) -> tuple[float, float, float, float]:
        """Left, right, bottom, top of a plane on the page [unit]."""
        left, right = self.edges(plane.across, focus)
        bottom, top = self.edges(plane.vertical, focus)
        if plane.mirrored:
            left, right = right, left
        if plane.downward:
            bottom, top = top, bottom
        return left, right, bottom, top

    def size(self, plane: Plane) -> tuple[float, float]:
        """Width and height of a plane [unit]."""
        sizes = self.zooms * self.shape
        return float(sizes[plane.across]), float(sizes[plane.vertical])

    def letters(self, plane: Plane) -> tuple[str, str, str, str]:
        """Left, right, bottom, top: the side of the patient there; empty where unknown."""
        if not self.known:
            return "", "", "", ""
        across = NEGATIVE[plane.across], POSITIVE[plane.across]
        vertical = NEGATIVE[plane.vertical], POSITIVE[plane.vertical]
        return (*(across[::-1] if plane.mirrored else across), *vertical)

    def planes(self, radiological: bool = True) -> tuple[Plane, ...]:
        """The planes to show: three of a volume (axial, coronal, sagittal), one of a 2D image."""
        if self.unit == "pixel":
            across, vertical = (1, 0) if self.rows_first else (0, 1)
            return (Plane("picture", 2, across, vertical, downward=True),)
        if not self.known:
            planes = tuple(Plane(f"axes {a}, {b}", n, a, b) for n, a, b in _PAGES)
            return planes if self.axes == 3 else planes[:1]
        # The nose points left in sagittal planes, as in 3D Slicer, in either convention.
        planes = tuple(
            Plane(NAMES[n], n, a, b, mirrored=(n == 0 or radiological)) for n, a, b in _PAGES
        )
        return tuple(p for p in planes if self.axes == 3 or self.order[p.normal] == 2)

    def _span(self, count: int) -> str:
        corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in self.shape])).reshape(3, -1)
        places = self.affine[:3, :3] @ corners + self.affine[:3, 3:]
        unit = "mm" if self.known else "voxels"
        bounds = zip("xyz" if self.known else "012", places.min(1), places.max(1), strict=True)
        return ", ".join(f"{k} {a:.1f} to {b:.1f} {unit}" for k, a, b in list(bounds)[:count])


_PAGES = ((2, 0, 1), (1, 0, 2), (0, 1, 2))  # (normal, across, vertical): axial, coronal, sagittal


def patient_grid(affine: Array, shape: tuple[int, ...]) -> Grid:
    """The grid of an array of 2 or 3 axes whose affine (4, 4) leads to RAS mm.

    Raises:
        ValueError: the affine is not (4, 4), finite and invertible.
    """
    from nibabel.orientations import io_orientation

    affine = _whole(np.array(affine, dtype=np.float64), len(shape))
    sources = io_orientation(affine)  # for each axis of the array: patient axis, direction
    order = np.argsort(sources[:, 0])
    flipped = sources[order, 1] < 0
    widened = np.array([*shape, *(1,) * (3 - len(shape))])
    turned = np.eye(4)
    turned[:3, :3] = affine[:3, order] * np.where(flipped, -1, 1)
    turned[:3, 3] = affine[:3, 3] + affine[:3, order] @ np.where(flipped, widened[order] - 1, 0)
    i, j, k = (int(axis) for axis in order)
    a, b, c = (bool(flip) for flip in flipped)
    size = (int(widened[i]), int(widened[j]), int(widened[k]))
    return Grid(size, turned, (i, j, k), (a, b, c), len(shape), "mm")


def plain_grid(shape: tuple[int, ...], unit: str = "voxel", rows_first: bool = False) -> Grid:
    """The grid of an array of 1 to 3 axes whose place in the patient is unknown."""
    a, b, c = (*shape, *(1,) * (3 - len(shape)))
    straight = (False, False, False)
    return Grid((a, b, c), np.eye(4), (0, 1, 2), straight, len(shape), unit, rows_first)


def _whole(affine: Array, axes: int) -> Array:
    """The affine with a third axis, normal to the first two where a 2D image leaves it zero."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError(f"expected a finite affine of shape (4, 4), got\n{affine}")
    if axes == 2 and not affine[:3, 2].any():
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = normal / (np.linalg.norm(normal) or 1.0)
    if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ValueError(f"expected an invertible affine, got\n{affine}")
    return affine
