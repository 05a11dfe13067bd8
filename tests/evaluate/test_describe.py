"""Sparseness, agreement, repeatability, and what chance gives: known values."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from medsal import GradCAM, Gradient, Probe, SmoothGrad
from medsal.evaluate import (
    agreement,
    entropy,
    gini,
    rank_correlation,
    repeatability,
    surrogates,
)
from medsal.ops import smooth
from medsal.targets import ClassScore, Predicted


@pytest.mark.parametrize("size", [(50,), (5, 10), (5, 5, 2)])
def test_one_voxel_is_sparse_and_a_constant_is_not(size: tuple[int, ...]) -> None:
    one = torch.zeros(1, 1, *size)
    one.flatten()[7] = -4.0
    assert gini(one).item() == pytest.approx(1 - 1 / 50)
    assert entropy(one).item() == 0
    for value in (3.0, -1e-20, 0.0):
        constant = torch.full((1, 1, *size), value)
        assert gini(constant).item() == pytest.approx(0, abs=1e-6)
        assert entropy(constant).item() == pytest.approx(1)


def test_sparseness_by_hand() -> None:
    saliency = torch.tensor([[[1.0, -3.0, 0.0, 4.0]]])
    # The mean difference of two voxels over twice the mean.
    values = saliency.abs().flatten()
    differences = (values[:, None] - values[None]).abs().mean() / (2 * values.mean())
    assert gini(saliency).item() == pytest.approx(differences.item())
    shares = [1 / 8, 3 / 8, 4 / 8]
    expected = -sum(p * math.log(p) for p in shares) / math.log(4)
    assert entropy(saliency).item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="two voxels or more"):
        gini(torch.ones(1, 1, 1))
    with pytest.raises(ValueError, match="two voxels or more"):
        entropy(torch.ones(1, 1, 1))


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softplus(), *head).eval()


def test_methods_agree_with_themselves() -> None:
    image = torch.rand(2, 1, 12, 12)
    methods = ["gradcam", GradCAM(), SmoothGrad(samples=2), SmoothGrad(samples=2, seed=1)]
    found = agreement(Probe(net(0), Predicted()), image, methods)
    assert found.rank.shape == (2, 4, 4)
    for each in found.values:
        torch.testing.assert_close(each[:, 0, 1], torch.ones(2))
        assert (each[:, 2, 3] < 0.999).all()
    with pytest.raises(ValueError, match="two methods or more"):
        agreement(Probe(net(0), Predicted()), image, ["gradcam"])


def test_networks_repeat_themselves() -> None:
    image, first = torch.rand(2, 1, 12, 12), net(0)
    found = repeatability(
        [copy.deepcopy(first), net(1)], Probe(first, ClassScore(1)), image, Gradient()
    )
    for each in found.values:
        torch.testing.assert_close(each[:, 0, 1], torch.ones(2))
        assert (each[:, 0, 2] < 0.9).all()
    with pytest.raises(ValueError, match="other network"):
        repeatability([], Probe(first, ClassScore(1)), image, Gradient())


def neighbours(saliency: Tensor) -> float:
    """The correlation of voxels with the next one along the last axis."""
    a, b = saliency[..., 1:].flatten(), saliency[..., :-1].flatten()
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


@pytest.mark.parametrize("size", [(4000,), (64, 65), (16, 17, 18)])
def test_surrogates_have_the_values_and_the_smoothness_and_not_the_place(
    size: tuple[int, ...],
) -> None:
    saliency = smooth(torch.randn(2, 1, *size), [1.5] * len(size)).relu()
    made = list(surrogates(saliency, 10, seed=3))
    for each in made:
        assert torch.equal(each.flatten(1).sort(1).values, saliency.flatten(1).sort(1).values)
        assert neighbours(each) == pytest.approx(neighbours(saliency), abs=0.1)
    alike = torch.stack([rank_correlation(saliency, each) for each in made])
    assert alike.mean().abs() < 0.06
    assert not torch.equal(made[0], made[1])
    again = next(surrogates(saliency, 1, seed=3))
    assert torch.equal(again, made[0])
