"""Maps against masks: every number here is known by hand, or by scikit-learn."""

import math

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from medsal.evaluate import (
    auprc,
    best_dice,
    centroid_distance,
    centroid_offset,
    dice,
    energy_pointing_game,
    iou,
    overlap,
    peak_distance,
    pointing_game,
)
from medsal.evaluate.arguments import check_choice

SIZES = [(40,), (12, 10), (8, 7, 6)]


def spot(size: tuple[int, ...], *voxels: tuple[int, ...]) -> Tensor:
    """1 at these voxels of an empty map."""
    grid = torch.zeros(1, 1, *size)
    for voxel in voxels:
        grid[(0, 0, *voxel)] = 1
    return grid


@pytest.mark.parametrize("size", SIZES)
def test_a_map_that_is_the_mask_is_perfect(size: tuple[int, ...]) -> None:
    mask = spot(size, tuple(2 for _ in size), tuple(3 for _ in size)).bool()
    saliency = mask * 0.7
    for perfect in (pointing_game, energy_pointing_game, auprc, dice, iou, best_dice):
        assert perfect(saliency, mask).tolist() == [1]
    for distance in (peak_distance, centroid_distance):
        assert distance(saliency, mask).tolist() == [0]


def test_the_peak_is_that_far_in_mm() -> None:
    mask = spot((9, 9, 9), (2, 2, 2), (2, 2, 4)).bool()
    saliency = spot((9, 9, 9), (5, 6, 4))
    # 3, 4 and 0 voxels from the nearest one, of 1, 2 and 3 mm.
    assert peak_distance(saliency, mask, (1, 2, 3)).item() == pytest.approx(math.hypot(3, 8))
    # The centre lies at (2, 2, 3), in no voxel of the mask.
    centre = peak_distance(saliency, mask, (1, 2, 3), to="centre").item()
    assert centre == pytest.approx(math.hypot(3, 8, 3))
    assert peak_distance(saliency, mask).item() == pytest.approx(5)


def test_an_affine_places_offsets_in_ras() -> None:
    """Axes permuted, one mirrored, anisotropic: a step along the first axis is 2 mm to the left."""
    affine = torch.tensor(
        [[-2.0, 0, 0, 50], [0, 0, 3.0, -20], [0, 0.5, 0, 7], [0, 0, 0, 1]], dtype=torch.float64
    )
    mask = spot((9, 9, 9), (2, 2, 2)).bool()
    saliency = spot((9, 9, 9), (3, 6, 3))
    assert centroid_offset(saliency, mask, affine).tolist() == [[-2, 3, 2]]
    assert centroid_offset(saliency, mask, (2, 0.5, 3)).tolist() == [[2, 2, 3]]
    assert centroid_distance(saliency, mask, affine).item() == pytest.approx(math.sqrt(17))
    assert peak_distance(saliency, mask, affine).item() == pytest.approx(math.sqrt(17))
    several = torch.stack([affine, torch.diag(torch.tensor([1.0, 1, 1, 1], dtype=torch.float64))])
    pair = centroid_offset(
        saliency.expand(2, -1, -1, -1, -1), mask.expand(2, -1, -1, -1, -1), several
    )
    assert pair.tolist() == [[-2, 3, 2], [1, 4, 1]]


def test_a_sheared_grid_is_measured_in_mm() -> None:
    """A gantry tilt: a step along the third axis is (0, 3, 4) mm, 5 mm long."""
    affine = torch.tensor(
        [[1.0, 0, 0, 0], [0, 1, 3, 0], [0, 0, 4, 0], [0, 0, 0, 1]], dtype=torch.float64
    )
    mask, saliency = spot((5, 9, 5), (2, 2, 1)).bool(), spot((5, 9, 5), (2, 2, 3))
    assert peak_distance(saliency, mask, affine).item() == pytest.approx(10)


@pytest.mark.parametrize(("tolerance", "hit"), [(0, 0), (2.9, 0), (3, 1), (8, 1)])
def test_the_pointing_game_forgives_a_tolerance(tolerance: float, hit: int) -> None:
    mask, saliency = spot((9, 9), (2, 2)).bool(), spot((9, 9), (4, 2))
    assert pointing_game(saliency, mask, tolerance, (1.5, 7)).tolist() == [hit]


def test_a_shared_peak_counts_by_its_shares() -> None:
    mask = spot((6, 6), (1, 1)).bool()
    saliency = spot((6, 6), (1, 1), (1, 3), (4, 1), (1, 2))
    assert pointing_game(saliency, mask).item() == pytest.approx(1 / 4)
    assert peak_distance(saliency, mask).item() == pytest.approx((0 + 2 + 3 + 1) / 4)


@pytest.mark.parametrize("value", [0.0, -1.0, 3.0])
def test_a_map_that_says_nothing_gets_chance(value: float) -> None:
    mask = spot((4, 5), (0, 0), (0, 1)).bool()
    saliency = torch.full((1, 1, 4, 5), value)
    for share in (pointing_game, energy_pointing_game, auprc):
        assert share(saliency, mask).item() == pytest.approx(2 / 20)
    # Cut at any share of its largest value, it is the whole grid.
    for whole in (dice, best_dice):
        assert whole(saliency, mask).item() == pytest.approx(2 * 2 / (20 + 2))
    assert iou(saliency, mask).item() == pytest.approx(2 / 20)
    # Its centroid is the grid's.
    assert centroid_offset(saliency, mask).tolist() == [[1.5, 1.5]]


def test_energy_is_a_share_of_the_positive_sum() -> None:
    saliency = torch.tensor([[[[3.0, 1.0], [-4.0, 0.0]]]])
    mask = torch.tensor([[[[1, 0], [1, 0]]]])
    assert energy_pointing_game(saliency, mask).item() == pytest.approx(3 / 4)


def test_the_centroid_may_leave_out_what_is_faint() -> None:
    saliency = torch.zeros(1, 1, 11)
    saliency[..., 2], saliency[..., 10] = 1.0, 0.25
    mask = spot((11,), (2,)).bool()
    assert centroid_offset(saliency, mask).item() == pytest.approx((2 + 10 / 4) / 1.25 - 2)
    assert centroid_offset(saliency, mask, above=0.5).item() == 0


@pytest.mark.parametrize("levels", [4, 10_000])
@pytest.mark.parametrize("size", SIZES)
def test_auprc_is_the_average_precision_of_scikit_learn(size: tuple[int, ...], levels: int) -> None:
    """With many equal values and with hardly any; the samples of a batch apart."""
    saliency = torch.randn(3, 1, *size).mul(levels / 6).round()
    mask = torch.rand(3, 1, *size) < 0.2 + 0.1 * (saliency > 0)
    expected = [
        average_precision_score(inside.flatten().numpy(), values.flatten().numpy())
        for values, inside in zip(saliency, mask, strict=True)
    ]
    assert auprc(saliency, mask).tolist() == pytest.approx(expected, abs=1e-6)


def test_overlap_at_each_threshold() -> None:
    """Voxels of 4, 3, 2 and 1; the mask holds those of 4 and 2."""
    saliency = torch.tensor([[[4.0, 3.0, 2.0, 1.0, 0.0]]])
    mask = torch.tensor([[[1, 0, 1, 0, 0]]])
    found = overlap(saliency, mask, (1.0, 0.75, 0.5, 0.25))
    kept, both = torch.tensor([1, 2, 3, 4]), torch.tensor([1, 1, 2, 2])
    torch.testing.assert_close(found.dice[0], 2 * both / (kept + 2))
    torch.testing.assert_close(found.iou[0], both / (kept + 2 - both))
    assert dice(saliency, mask, 0.5).item() == pytest.approx(4 / 5)
    assert iou(saliency, mask, 0.5).item() == pytest.approx(2 / 3)
    assert best_dice(saliency, mask).item() == pytest.approx(4 / 5)


def test_the_best_dice_is_that_of_all_thresholds() -> None:
    saliency, mask = torch.rand(2, 1, 9, 8), torch.rand(2, 1, 9, 8) < 0.3
    every = [
        (2 * (kept & mask).sum((1, 2, 3)) / (kept.sum((1, 2, 3)) + mask.sum((1, 2, 3))))
        for kept in (saliency >= value for value in saliency.unique())
    ]
    torch.testing.assert_close(best_dice(saliency, mask), torch.stack(every).amax(0))


def test_what_does_not_fit_is_refused() -> None:
    saliency, mask = torch.rand(2, 1, 4, 4), torch.ones(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"expected a mask of the map's shape \(2, 1, 4, 4\)"):
        auprc(saliency, mask[:, :, :3])
    with pytest.raises(ValueError, match=r"empty in \[1\]"):
        pointing_game(saliency, torch.stack([mask[0], 0 * mask[0]]))
    with pytest.raises(ValueError, match="mask == label"):
        auprc(saliency, mask * 2)
    with pytest.raises(ValueError, match="one map per sample"):
        auprc(saliency.expand(2, 3, 4, 4), mask)
    with pytest.raises(ValueError, match="NaN"):
        dice(saliency * math.nan, mask)
    with pytest.raises(ValueError, match="tolerance"):
        pointing_game(saliency, mask, -1)
    with pytest.raises(ValueError, match="voxel size for each of 2 axes"):
        peak_distance(saliency, mask, (1, 1, 1))
    with pytest.raises(ValueError, match="inverted"):
        peak_distance(saliency, mask, torch.zeros(4, 4))
    with pytest.raises(ValueError, match="above 0"):
        peak_distance(saliency, mask, (1, 0))
    with pytest.raises(ValueError, match=r"to as one of \['mask', 'centre'\], got 'edge'"):
        check_choice("to", "edge", ("mask", "centre"))
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        overlap(saliency, mask, (0.0,))
    with pytest.raises(ValueError, match="at least one threshold"):
        overlap(saliency, mask, ())
    with pytest.raises(TypeError, match="floats"):
        auprc(mask.long(), mask)
