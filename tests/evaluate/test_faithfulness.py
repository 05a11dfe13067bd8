"""Insertion and deletion of scores whose every step is known."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from medsal import Gradient, Occlusion, Probe
from medsal.evaluate import Curve, deletion, insertion
from medsal.targets import ClassScore, Predicted


class Weighted(nn.Module):
    """The score is a weighted sum of the voxels; the other class is 0."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.seen = 0

    def forward(self, image: Tensor) -> Tensor:
        self.seen = max(self.seen, len(image))
        score = (image * self.weights).flatten(1).sum(1)
        return torch.stack([score * 0, score], 1)


def probe(weights: Tensor) -> Probe:
    return Probe(Weighted(weights), ClassScore(1))


def known(shares: Tensor) -> float:
    """The trapezoidal area under what is left when the largest shares go first."""
    left = 1 - torch.cat([torch.zeros(1), shares.sort(descending=True).values.cumsum(0)])
    return float((left[1:] + left[:-1]).mean() / 2)


@pytest.mark.parametrize("size", [(6,), (3, 4), (2, 3, 2)])
def test_deletion_of_a_sum_is_known(size: tuple[int, ...]) -> None:
    weights = torch.arange(1.0, 1 + torch.zeros(size).numel()).reshape(1, 1, *size)
    image = torch.ones(1, 1, *size)
    curve = deletion(probe(weights), image, weights, baseline=0, steps=1000)
    shares = weights.flatten() / weights.sum()
    assert curve.fractions.tolist() == pytest.approx(
        [i / 12 for i in range(13)][:: 12 // len(shares)]
    )
    assert curve.normalised.item() == pytest.approx(known(shares))
    assert curve.auc.item() == pytest.approx(known(shares) * float(weights.sum()))
    back = insertion(probe(weights), image, weights, baseline=0, steps=1000)
    # What is put back first is what was taken first: the two areas add up to 1.
    assert back.normalised.item() == pytest.approx(1 - known(shares))


@pytest.mark.parametrize("kind", [insertion, deletion])
def test_a_straight_line_has_half_the_area(kind: Callable[..., Curve]) -> None:
    """Whatever the score's scale, and where the empty image does not score 0."""
    image = torch.full((1, 1, 4, 4), 2.0)
    for scale in (1e-3, 1.0, 50.0):
        for baseline in (0, 1.5, -3):
            weights = torch.full((1, 1, 4, 4), scale)
            curve = kind(probe(weights), image, torch.rand(1, 1, 4, 4), baseline=baseline)
            assert curve.normalised.item() == pytest.approx(0.5, abs=1e-5)


def test_the_true_map_beats_the_reverse_and_chance() -> None:
    weights, image = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    asked = probe(weights)
    true, chance, reverse = (
        deletion(asked, image, saliency, baseline=0).normalised.item()
        for saliency in (weights, torch.rand(1, 1, 8, 8), -weights)
    )
    assert true < chance < reverse
    assert true + reverse == pytest.approx(1, abs=1e-5)


def test_steps_read_the_same_curve_less_often() -> None:
    weights, image = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    every = deletion(probe(weights), image, weights, baseline=0, steps=64)
    few = deletion(probe(weights), image, weights, baseline=0, steps=4)
    torch.testing.assert_close(few.scores, every.scores[:, ::16])


def test_blocks_go_together_and_are_cut_at_the_border() -> None:
    """Five voxels in blocks of 2, 2 and 1; by their mean the last one comes first."""
    weights = torch.tensor([[[1.0, 1.0, 2.0, 0.0, 5.0]]])
    saliency = torch.tensor([[[1.0, 1.0, 4.0, 2.0, 9.0]]])
    curve = deletion(probe(weights), torch.ones(1, 1, 5), saliency, baseline=0, block=2)
    assert curve.scores.tolist() == [[9.0, 4.0, 2.0, 0.0]]
    assert curve.fractions.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_equal_values_go_in_no_direction() -> None:
    """By their index, all of one half would go before the other."""
    half = torch.zeros(1, 1, 40, 10)
    half[:, :, :20] = 1
    constant, image = torch.ones(1, 1, 40, 10), torch.ones(1, 1, 40, 10)
    areas = [
        deletion(probe(half), image, constant, baseline=0, seed=seed).normalised.item()
        for seed in range(5)
    ]
    assert len(set(areas)) == 5
    assert areas == pytest.approx([0.5] * 5, abs=0.05)


def test_samples_do_not_mix() -> None:
    weights, image = torch.rand(1, 2, 6, 5), torch.rand(3, 2, 6, 5)
    saliency = torch.rand(3, 1, 6, 5)
    asked = probe(weights)
    together = deletion(asked, image, saliency, steps=7)
    for i in range(3):
        alone = deletion(asked, image[[i]], saliency[[i]], steps=7)
        torch.testing.assert_close(together.scores[[i]], alone.scores)


def test_passes_are_no_larger_than_asked() -> None:
    asked = probe(torch.rand(1, 1, 6, 5))
    deletion(asked, torch.rand(1, 1, 6, 5), torch.rand(1, 1, 6, 5), batch=3)
    assert asked.model.seen == 3


@pytest.mark.parametrize("baseline", ["blur", "mean", "inpaint", 0.5, torch.tensor(0.5)])
def test_a_flat_image_hides_nothing(baseline: object) -> None:
    image = torch.full((1, 1, 6, 7), 0.5)
    curve = deletion(
        probe(torch.ones(1)), image, torch.rand(1, 1, 6, 7), baseline=baseline, steps=4
    )
    torch.testing.assert_close(curve.scores, torch.full((1, 5), 21.0))
    assert not curve.defined.any()
    with pytest.raises(ValueError, match=r"samples \[0\]; choose another baseline"):
        _ = curve.normalised
    assert len(curve[curve.defined].normalised) == 0


def test_inpainting_takes_away_a_spot_and_leaves_a_ramp() -> None:
    ramp = torch.arange(9.0).expand(1, 1, 9, 9)
    spot = torch.zeros(1, 1, 9, 9)
    spot[:, :, 3:6, 3:6] = 1
    curve = deletion(probe(spot), ramp + spot, spot, baseline="inpaint", steps=9)
    # After 9 of 81 voxels the ramp is as it was: the spot's own 9 are gone.
    assert curve.scores[0, 0].item() == pytest.approx(9 * 5)
    assert curve.scores[0, 1].item() == pytest.approx(9 * 4, abs=1e-3)


def test_the_prediction_is_fixed_at_the_whole_image() -> None:
    """Without the voxels that speak for it, the network predicts the other class."""
    weights = torch.tensor([[[3.0, -1.0, -1.0]]])
    asked = Probe(Weighted(weights), Predicted())
    curve = deletion(asked, torch.ones(1, 1, 3), weights, baseline=0)
    assert curve.scores.tolist() == [[1.0, -2.0, -1.0, 0.0]]


def test_methods_that_know_a_sum_are_faithful_to_it() -> None:
    asked, image = probe(torch.rand(1, 1, 6, 6)), torch.ones(1, 1, 6, 6)
    best = deletion(asked, image, asked.model.weights, baseline=0)
    for method in (Gradient(), Occlusion(window=1)):
        found = deletion(asked, image, method(asked, image), baseline=0)
        torch.testing.assert_close(found.scores, best.scores)


def test_what_does_not_fit_is_refused() -> None:
    asked, image = probe(torch.ones(1)), torch.rand(1, 1, 6, 7)
    saliency = torch.rand(1, 1, 6, 7)
    with pytest.raises(ValueError, match=r"expected a map of the shape \(1, 1, 6, 7\)"):
        deletion(asked, image, saliency[..., :5])
    with pytest.raises(ValueError, match="'inpaint'"):
        insertion(asked, image, saliency, baseline="zeros")
    with pytest.raises(ValueError, match="steps"):
        insertion(asked, image, saliency, steps=0)
    with pytest.raises(ValueError, match="block"):
        insertion(asked, image, saliency, block=(2, 2, 2))
    with pytest.raises(ValueError, match="batch"):
        insertion(asked, image, saliency, batch=0)
    both = Probe(asked.model, (ClassScore(0), ClassScore(1)))
    with pytest.raises(ValueError, match="one target"):
        insertion(both, image, saliency)
