"""Infidelity and max-sensitivity: captum's figures on the same draws, and answers known by hand."""

import captum.metrics
import pytest
import torch
from torch import Tensor, nn

from medsal import Gradient, InputXGradient, Probe
from medsal.evaluate import Noise, Removal, infidelity, max_sensitivity
from medsal.targets import ClassScore, Predicted


def curved(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    head = [nn.Flatten(2), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(16, 3)]
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Softplus(), *head).eval()


class Linear(nn.Module):
    """The score is a weighted sum of the voxels of all channels."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, image: Tensor) -> Tensor:
        return (image * self.weights).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("perturbation", [Noise(0.1), Removal(0.4, baseline=0)])
def test_infidelity_is_captums(perturbation: Noise | Removal, scaled: bool) -> None:
    net, image = curved(), torch.rand(1, 1, 9, 8)
    asked = Probe(net, ClassScore(2))
    saliency = Gradient("sum")(asked, image)

    generator = torch.Generator().manual_seed(4)

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        steps, changed = zip(*(perturbation(image, generator) for _ in inputs), strict=True)
        return torch.cat(steps), torch.cat(changed)

    expected = captum.metrics.infidelity(
        net, perturb, image, saliency, target=2, n_perturb_samples=20, normalize=scaled
    )
    found = infidelity(
        asked, image, saliency, perturbation=perturbation, samples=20, scaled=scaled, seed=4
    )
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-7)


def test_max_sensitivity_is_captums() -> None:
    net, image = curved(), torch.rand(1, 1, 9, 8)
    span = float(image.max() - image.min())

    def explain(inputs: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        (seen,) = inputs if isinstance(inputs, tuple) else (inputs,)  # captum gives both
        return (Gradient("sum")(Probe(net, ClassScore(2)), seen),)

    # captum asks in several calls, which go on drawing.
    generator = torch.Generator().manual_seed(4)

    def perturb(inputs: Tensor) -> Tensor:
        drawn = [torch.rand(1, 9, 8, generator=generator) * 2 - 1 for _ in inputs]
        return inputs + 0.05 * span * torch.stack(drawn)

    expected = captum.metrics.sensitivity_max(explain, image, perturb, n_perturb_samples=7)
    found = max_sensitivity(
        Probe(net, ClassScore(2)), image, Gradient("sum"), radius=0.05, samples=7, seed=4
    )
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("size", [(12,), (5, 4), (4, 3, 2)])
def test_of_a_sum_the_gradient_and_the_shares_answer_exactly(size: tuple[int, ...]) -> None:
    """Three channels: noise is the same in all, so the channels' sum is what counts."""
    asked = Probe(Linear(torch.randn(1, 3, *size)), lambda output: output[:, 0])
    image = torch.rand(2, 3, *size)
    gradient, shares = Gradient("sum")(asked, image), InputXGradient()(asked, image)
    removal = Removal(baseline=0)
    assert infidelity(asked, image, gradient, scaled=False).amax() < 1e-8
    assert infidelity(asked, image, gradient * 7).amax() < 1e-8
    assert infidelity(asked, image, shares, perturbation=removal, scaled=False).amax() < 1e-8
    assert infidelity(asked, image, gradient * 7, scaled=False).amin() > 1e-3


def test_a_map_that_says_nothing_leaves_the_whole_change_unexplained() -> None:
    """A box of a quarter of each axis takes 4 of 64 voxels of weight 1/2 away: (4/2)^2."""
    asked = Probe(Linear(torch.full((1, 1, 8, 8), 0.5)), lambda output: output[:, 0])
    image = torch.ones(1, 1, 8, 8)
    for scaled in (True, False):
        found = infidelity(
            asked, image, torch.zeros(1, 1, 8, 8), perturbation=Removal(baseline=0), scaled=scaled
        )
        assert found.item() == pytest.approx(4)


class Square(nn.Module):
    """The score is half the sum of squares, whose gradient is the image."""

    def forward(self, image: Tensor) -> Tensor:
        return image.square().flatten(1).sum(1, keepdim=True) / 2


def test_max_sensitivity_of_a_gradient_that_is_the_image() -> None:
    """``|y - x| / |x|``, at most ``radius * span * sqrt(N) / |x|``; in any unit of the image."""
    asked, image = Probe(Square(), lambda output: output[:, 0]), torch.rand(1, 1, 16, 16)
    image.flatten()[:2] = torch.tensor([0.0, 1.0])
    few, many = (
        max_sensitivity(asked, image, Gradient("sum"), radius=0.1, samples=n) for n in (1, 40)
    )
    most = 0.1 * 16 / image.norm()
    # The root of the mean square of uniform numbers is 1 / sqrt(3).
    assert few.item() == pytest.approx(float(most) / 3**0.5, rel=0.1)
    assert few < many < most
    scaled = max_sensitivity(asked, image * 300, Gradient("sum"), radius=0.1, samples=1)
    torch.testing.assert_close(scaled, few)
    assert max_sensitivity(asked, image, Gradient("sum"), radius=0).item() == 0


def test_a_map_that_stays_or_appears() -> None:
    asked, image = Probe(curved(), Predicted()), torch.rand(2, 1, 9, 8)

    def nothing(probe: Probe, image: Tensor) -> Tensor:
        return torch.zeros_like(image)

    def difference(probe: Probe, seen: Tensor) -> Tensor:
        return seen - image

    assert max_sensitivity(asked, image, nothing).tolist() == [0, 0]
    assert max_sensitivity(asked, image, difference).isposinf().all()


def test_samples_do_not_mix() -> None:
    asked, image = Probe(curved(2), ClassScore(1)), torch.rand(3, 2, 9, 8)
    saliency = Gradient("sum")(asked, image)
    for metric in (
        lambda x, m: infidelity(asked, x, m, samples=5),
        lambda x, m: infidelity(asked, x, m, samples=5, perturbation=Removal()),
        lambda x, m: max_sensitivity(asked, x, Gradient(), samples=3),
    ):
        together = metric(image, saliency)
        alone = [metric(image[[i]], saliency[[i]]) for i in range(3)]
        torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-8)


def test_what_does_not_fit_is_refused() -> None:
    asked, image = Probe(curved(), ClassScore(1)), torch.rand(1, 1, 9, 8)
    with pytest.raises(ValueError, match="expected a map of the shape"):
        infidelity(asked, image, image[..., :4])
    with pytest.raises(ValueError, match="samples"):
        infidelity(asked, image, image, samples=0)
    with pytest.raises(ValueError, match="radius"):
        max_sensitivity(asked, image, Gradient(), radius=-1)
    with pytest.raises(ValueError, match="sigma"):
        Noise(0)
    with pytest.raises(ValueError, match="width"):
        Removal(0)
