import numpy as np
import pytest
from nibabel import aff2axcodes, as_closest_canonical
from nibabel.nifti1 import Nifti1Image

from medsal.view.panel import rectangles
from medsal.view.planes import patient_grid, plain_grid

SHAPE = (11, 14, 9)


def test_codes_are_nibabels(affine):
    assert patient_grid(affine, SHAPE).codes == "".join(aff2axcodes(affine))


def test_turned_array_is_nibabels_closest_canonical(affine):
    volume = np.random.default_rng(1).random(SHAPE)
    grid = patient_grid(affine, SHAPE)
    canonical = as_closest_canonical(Nifti1Image(volume, affine))
    np.testing.assert_array_equal(grid.turn(volume), canonical.get_fdata())
    np.testing.assert_allclose(grid.affine, canonical.affine)
    assert np.shares_memory(grid.turn(volume), volume)


def test_a_point_is_found_where_the_affine_puts_it(affine):
    grid = patient_grid(affine, SHAPE)
    volume = np.zeros(SHAPE)
    volume[3, 9, 2] = 1
    focus = grid.find(affine[:3] @ [3, 9, 2, 1])
    assert grid.turn(volume)[focus.voxel] == 1
    np.testing.assert_allclose(focus.place, affine[:3] @ [3, 9, 2, 1])


def test_letters_by_convention(affine):
    grid = patient_grid(affine, SHAPE)
    letters = [grid.letters(plane) for plane in grid.planes(radiological=True)]
    assert letters == [("R", "L", "P", "A"), ("R", "L", "I", "S"), ("A", "P", "I", "S")]
    letters = [grid.letters(plane) for plane in grid.planes(radiological=False)]
    assert letters == [("L", "R", "P", "A"), ("L", "R", "I", "S"), ("A", "P", "I", "S")]


def test_sizes_are_physical(affine):
    grid = patient_grid(affine, SHAPE)
    lengths = np.linalg.norm(affine[:3, :3], axis=0) * SHAPE
    np.testing.assert_allclose(grid.zooms * grid.shape, lengths[list(grid.order)])
    for plane in grid.planes():
        left, right, bottom, top = grid.extent(plane, grid.centre())
        np.testing.assert_allclose((abs(right - left), abs(top - bottom)), grid.size(plane))


def test_obliquity_and_shear():
    turned = np.eye(4)
    c, s = np.cos(np.radians(7.7)), np.sin(np.radians(7.7))
    turned[:2, :2] = [[c, -s], [s, c]]
    assert patient_grid(turned, SHAPE).obliquity == pytest.approx(7.7)
    assert patient_grid(turned, SHAPE).shear == pytest.approx(0, abs=1e-5)
    turned[0, 2] = np.tan(np.radians(10))
    assert patient_grid(turned, SHAPE).shear > 5


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("index", [-0.6, 14])
def test_outside_is_an_error_that_gives_the_extent(axis, index):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = -10
    point = np.array([5.0, 5.0, 5.0])
    point[axis] = index
    with pytest.raises(ValueError, match=r"x -11\.0 to 11\.0 mm, y -11\.5 to 30\.5 mm, z -12\.0"):
        patient_grid(affine, SHAPE).find(affine[:3, :3] @ point + affine[:3, 3])


def test_points_of_the_wrong_kind():
    with pytest.raises(ValueError, match="3 RAS mm"):
        patient_grid(np.eye(4), SHAPE).find(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="3 voxel indices"):
        plain_grid(SHAPE).find(np.array([1.0, np.nan, 3.0]))


def test_affines_that_are_none():
    with pytest.raises(ValueError, match="invertible"):
        patient_grid(np.diag([1.0, 0.0, 1.0, 1.0]), SHAPE)
    with pytest.raises(ValueError, match="finite"):
        patient_grid(np.full((4, 4), np.nan), SHAPE)


def test_2d_affine_without_a_third_axis():
    affine = np.diag([-2.0, -2.0, 0.0, 1.0])
    grid = patient_grid(affine, (5, 6))
    assert (grid.codes, grid.planes()[0].name) == ("LP", "axial")


def test_rectangles_cover_the_mask_once():
    mask = np.random.default_rng(0).random((20, 30)) > 0.4
    cover = np.zeros(mask.shape, int)
    for a, b, c, d in rectangles(mask):
        cover[a:b, c:d] += 1
    np.testing.assert_array_equal(cover, mask.astype(int))
