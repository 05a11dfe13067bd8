"""Two maps compared: against SciPy's and MONAI's own, and where the answer is known."""

import math

import pytest
import torch
from monai.metrics.regression import compute_ssim_and_cs
from scipy.stats import spearmanr

from medsal.evaluate import pairwise, rank_correlation, similarity, ssim

SIZES = [(60,), (14, 17), (12, 13, 14)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("levels", [3, 1e6])
def test_rank_correlation_is_that_of_scipy(size: tuple[int, ...], levels: float) -> None:
    """Also with many equal values, as a rectified map has."""
    one = (torch.randn(2, 1, *size) * levels).round()
    other = (one + torch.randn(2, 1, *size) * levels).round()
    for magnitude in (False, True):
        pairs = zip(*(x.abs() if magnitude else x for x in (one, other)), strict=True)
        expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in pairs]
        found = rank_correlation(one, other, magnitude=magnitude)
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_rank_correlation_sees_the_order_alone() -> None:
    one = torch.rand(1, 1, 8, 8) + 0.1
    assert rank_correlation(one, one.exp() * 1e4).item() == pytest.approx(1)
    assert rank_correlation(one, -one).item() == pytest.approx(-1)
    assert rank_correlation(one, -one, magnitude=True).item() == pytest.approx(1)
    constant = torch.ones(1, 1, 8, 8)
    assert rank_correlation(one, constant).item() == 0
    assert rank_correlation(constant, constant).item() == 0


@pytest.mark.parametrize("size", SIZES[1:])
def test_ssim_is_that_of_monai(size: tuple[int, ...]) -> None:
    one, other = torch.rand(2, 1, *size), torch.rand(2, 1, *size)
    mixed = 0.7 * one + 0.3 * other
    expected, _ = compute_ssim_and_cs(
        one, mixed, len(size), kernel_size=(11,) * len(size), kernel_sigma=(1.5,) * len(size),
        data_range=1.0,
    )  # fmt: skip
    torch.testing.assert_close(
        ssim(one, mixed, 1.0), expected.flatten(1).mean(1), atol=1e-4, rtol=0
    )


def test_ssim_of_constant_maps_is_the_formula() -> None:
    """Without variance, ``(2ab + C1) / (a^2 + b^2 + C1)``; the C of variances cancels."""
    a, b, c1 = 0.3, 0.8, (0.01 * 2) ** 2
    one, other = torch.full((1, 1, 12, 12), a), torch.full((1, 1, 12, 12), b)
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim(one, other, 2.0).item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("size", [*SIZES, (4, 30), (1, 9)])
def test_ssim_of_a_map_with_itself_is_1_in_any_unit(size: tuple[int, ...]) -> None:
    one = torch.randn(2, 1, *size)
    assert ssim(one, one * 1e-7).tolist() == pytest.approx([1, 1])
    empty = torch.zeros(2, 1, *size)
    assert ssim(empty, empty).tolist() == [1, 1]
    assert ssim(one, empty).isfinite().all()


def test_signed_maps_are_alike_only_with_their_signs() -> None:
    one = torch.randn(1, 1, 20, 20)
    assert ssim(one, -one).item() < -0.5
    # By hand: moved from -1 .. 1 to 0 .. 1.
    half = (one / one.abs().amax() + 1) / 2
    torch.testing.assert_close(ssim(one, -3 * one), ssim(half, 1 - half, 1.0))


def test_pairs_are_put_in_a_matrix() -> None:
    maps = [torch.randn(2, 1, 12, 12) for _ in range(3)]
    found = pairwise(maps)
    assert found.rank.shape == (2, 3, 3)
    for each in (found.rank, found.magnitude, found.ssim):
        assert torch.equal(each, each.mT)
        assert torch.equal(each.diagonal(dim1=1, dim2=2), torch.ones(2, 3))
    torch.testing.assert_close(found.ssim[:, 2, 1], similarity(maps[1], maps[2]).ssim)


def test_what_does_not_fit_is_refused() -> None:
    one = torch.rand(1, 1, 6, 6)
    with pytest.raises(ValueError, match="two maps of one shape"):
        rank_correlation(one, one[..., :5])
    with pytest.raises(ValueError, match="NaN"):
        ssim(one, one * math.inf)
    with pytest.raises(ValueError, match="value range"):
        ssim(one, one, 0.0)
