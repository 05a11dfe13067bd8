"""One affine resample: between grids of any handedness, shear and number of axes."""

import numpy as np
import pytest

from medsal.space import Grid, coverage, orthonormality, resample


def ramp(grid):
    index = np.stack(np.meshgrid(*map(np.arange, grid.volume), indexing="ij"), -1)
    world = index @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return (world @ (0.3, -0.5, 0.7)).astype(np.float32).reshape(1, *grid.shape)


def some_affine(seed):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rng.normal(size=(3, 3)) + 2 * np.eye(3)
    affine[:3, 3] = rng.normal(size=3) * 20
    return affine


def same_region(grid, shape):
    """A grid of another shape over the same voxels' edges."""
    scale = np.array(grid.shape) / shape
    affine = grid.affine.copy()
    affine[:3, :3] *= scale
    affine[:3, 3] = (grid.affine @ [*(scale / 2 - 0.5), 1])[:3]
    return Grid(shape, affine)


@pytest.mark.parametrize("seed", range(4))
def test_ramp_keeps_its_mm_on_sheared_and_left_handed_grids(seed):
    source = Grid((9, 8, 7), some_affine(seed))
    target = same_region(source, (18, 12, 5))
    moved = resample(ramp(source), source.affine, target)
    index = np.stack(np.meshgrid(*map(np.arange, target.shape), indexing="ij"))
    at = np.einsum("ij,j...->i...", target.to(source)[:3, :3], index)
    at += target.to(source)[:3, 3].reshape(3, 1, 1, 1)
    inner = ((at >= 0) & (at <= np.array(source.shape).reshape(3, 1, 1, 1) - 1)).all(0)
    assert inner.sum() > 200
    assert np.abs(moved - ramp(target))[0, inner].max() < 1e-4


def test_coverage_counts_half_a_voxel_of_border():
    source = Grid((8, 9, 7), some_affine(1))
    assert coverage(source, same_region(source, (16, 27, 7))).all()
    wide = source.affine.copy()
    wide[:3, 3] = (wide @ [-2, 0, 0, 1])[:3]
    known = coverage(source, Grid((12, 9, 7), wide))
    assert known.sum(0).min() == known.sum(0).max() == 8
    assert not known[:2].any()


def test_one_slice_of_three_axes_is_two_axes():
    source = Grid((8, 9), some_affine(2))
    data = np.random.default_rng(0).random((2, 8, 9), np.float32)
    np.testing.assert_allclose(resample(data, source.affine, source), data, atol=1e-6)
    deep = resample(data, source.affine, Grid((8, 9, 1), source.affine))
    np.testing.assert_allclose(deep[..., 0], data, atol=1e-6)


def test_what_is_no_grid():
    with pytest.raises(ValueError, match="2 or 3 axes"):
        Grid((8,), np.eye(4))
    with pytest.raises(ValueError, match="invertible"):
        Grid((8, 8), np.zeros((4, 4)))


def test_orthonormality_sees_shear():
    assert orthonormality(np.diag([-2.0, 3, 0.5, 1])) < 1e-12
    sheared = np.eye(4)
    sheared[0, 1] = 0.01
    assert orthonormality(sheared) == pytest.approx(0.01, rel=1e-3)
