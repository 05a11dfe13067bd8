"""ROAD: what is removed, from which end, and what it tells of a score that is known."""

import pytest
import torch
from torch import Tensor, nn

from medsal import Probe
from medsal.evaluate import impute, road
from medsal.targets import ClassScore, Predicted


class Spot(nn.Module):
    """How much brighter a square is than its surroundings; the other class is 0."""

    def forward(self, image: Tensor) -> Tensor:
        inner = image[..., 6:10, 6:10].flatten(1).mean(1)
        return torch.stack([0 * inner, inner - image.flatten(1).mean(1)], 1)


def scene() -> tuple[Tensor, Tensor]:
    spot = torch.zeros(1, 1, 16, 16)
    spot[..., 6:10, 6:10] = 1
    ramp = torch.arange(16.0).expand(1, 1, 16, 16) / 16
    return ramp + spot, spot


def test_the_spot_is_gone_at_once_or_stays_to_the_last() -> None:
    """16 of 256 voxels: of a tenth removed, the spot is all of the first and none of the last."""
    image, spot = scene()
    found = road(Probe(Spot(), ClassScore(1)), image, spot, noise=0)
    assert found.fractions.tolist() == pytest.approx([i / 10 for i in range(1, 10)], abs=0.004)
    whole = Spot()(image)[0, 1]
    assert (found.most < 0.1 * whole).all()
    torch.testing.assert_close(found.least[0, 0], whole, atol=0.02, rtol=0)
    assert (found.score > 0.5 * whole).all()
    reverse = road(Probe(Spot(), ClassScore(1)), image, -spot, noise=0)
    assert reverse.score.item() == pytest.approx(-found.score.item(), rel=0.2)


def test_a_random_map_gets_nothing_on_average() -> None:
    image, _ = scene()
    asked = Probe(Spot(), Predicted())
    scores = torch.cat([road(asked, image, torch.rand(1, 1, 16, 16)).score for _ in range(12)])
    whole = Spot()(image)[0, 1]
    assert abs(scores.mean()) < 0.1 * whole


def test_what_is_read_is_the_score_of_the_imputed_image() -> None:
    image, _ = scene()
    saliency = torch.rand(1, 1, 16, 16)
    found = road(Probe(Spot(), ClassScore(1)), image, saliency, fractions=(0.25,), seed=7)
    taken = saliency >= saliency.flatten().sort(descending=True).values[63]
    expected = Spot()(impute(image, taken, noise=0.01, seed=7))[:, [1]]
    torch.testing.assert_close(found.most, expected)


@pytest.mark.parametrize("size", [(40,), (8, 7, 6)])
def test_any_number_of_axes_and_blocks(size: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * torch.zeros(size).numel(), 2))
    image, saliency = torch.rand(2, 2, *size), torch.rand(2, 1, *size)
    found = road(Probe(net, ClassScore(0)), image, saliency, block=2, neighbours="faces")
    assert found.most.shape == found.least.shape == (2, 9)
    alone = road(Probe(net, ClassScore(0)), image[[1]], saliency[[1]], block=2, neighbours="faces")
    torch.testing.assert_close(found.score[[1]], alone.score, rtol=1e-2, atol=1e-3)


def test_what_does_not_fit_is_refused() -> None:
    image, spot = scene()
    with pytest.raises(ValueError, match="fractions"):
        road(Probe(Spot(), ClassScore(1)), image, spot, fractions=(0.5, 1.0))
    with pytest.raises(ValueError, match="fractions"):
        road(Probe(Spot(), ClassScore(1)), image, spot, fractions=())
