"""Voxel grids in RAS mm, and one affine resample from a grid to another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32


@dataclass(frozen=True, eq=False)
class Grid:
    """A voxel grid: a spatial shape of two or three axes, and an affine from voxel to RAS mm.

    A grid of two axes is one slice of three: its third axis has one voxel.

    Raises:
        ValueError: one axis alone, or an affine that is not `(4, 4)` and invertible.
    """

    shape: tuple[int, ...]
    affine: Float[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        if len(self.shape) not in (2, 3):
            raise ValueError(
                f"expected a grid of 2 or 3 axes, got the shape {self.shape}: signals of one axis"
                " have no place in a scan; use the map as it is"
            )
        det = np.linalg.det(self.affine[:3, :3])
        if not np.isfinite(self.affine).all() or abs(det) < 1e-12:
            raise ValueError(f"expected an invertible affine, got {self.affine.tolist()}")

    @property
    def volume(self) -> tuple[int, int, int]:
        """The shape with three axes."""
        x, y, z = (*self.shape, 1)[:3]
        return x, y, z

    @property
    def spacing(self) -> tuple[float, ...]:
        """The size of a voxel along each axis, in mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(mm) for mm in lengths[: len(self.shape)])

    def to(self, other: "Grid") -> Float[np.ndarray, "4 4"]:
        """The affine from this grid's voxels to the other's."""
        matrix: Float[np.ndarray, "4 4"] = np.linalg.inv(other.affine) @ self.affine
        return matrix

    def near(self, other: "Grid", tolerance: float = 1e-3) -> bool:
        """Whether both grids are the same to a part of a voxel at every corner."""
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.volume], [1])).reshape(4, -1)
        moved = np.abs(self.to(other) @ corners - corners).max()
        return self.volume == other.volume and bool(moved < tolerance)


def orthonormality(affine: Float[np.ndarray, "4 4"]) -> float:
    """How far an affine is from right angles: max |R'R - I| of its unit axes; 0 = no shear."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def resample(
    data: Float32[np.ndarray, "k *s"],
    affine: Float[np.ndarray, "4 4"],
    grid: Grid,
    *,
    background: float = 0.0,
) -> Float32[np.ndarray, "k *t"]:
    """The data on another grid, linear between voxel centres.

    The border's value goes on for half a voxel (align_corners=False); beyond is the background.

    Raises:
        ValueError: data of one spatial axis, or an affine that cannot be inverted.
    """
    source = Grid(data.shape[1:], affine)
    out = np.empty((data.shape[0], *grid.shape), np.float32)
    for channel, target in zip(data, out, strict=True):
        _sample(channel, source, grid, target, background, linear=True)
    return out


def coverage(source: Grid, grid: Grid) -> Bool[np.ndarray, "*t"]:
    """Which voxels of a grid have their centre in a voxel of the source grid."""
    out = np.empty(grid.shape, np.uint8)
    _sample(np.ones(source.shape, np.uint8), source, grid, out, 0.0, linear=False)
    return out.view(np.bool_)


def _sample(
    channel: Any, source: Grid, grid: Grid, out: Any, background: float, *, linear: bool
) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(channel.reshape(source.volume).T))
    # Both images stay at the identity, the transform maps voxel to voxel: shear is no case.
    steps = grid.to(source)
    transform = SimpleITK.AffineTransform(steps[:3, :3].ravel().tolist(), steps[:3, 3].tolist())
    kind = SimpleITK.sitkLinear if linear else SimpleITK.sitkNearestNeighbor
    unit = np.eye(3).ravel().tolist()
    moved = SimpleITK.Resample(
        image, grid.volume, transform, kind, (0.0,) * 3, (1.0,) * 3, unit, background
    )
    out[...] = SimpleITK.GetArrayViewFromImage(moved).T.reshape(grid.shape)
