"""Randomised weights: which ones, in which order, and that the model keeps its own."""

import copy

import pytest
import torch
from torch import Tensor, nn

from medsal import GradCAM, Gradient, Probe
from medsal.evaluate import (
    label_randomisation,
    randomisation,
    randomise,
    randomised_maps,
    target_sensitivity,
    weighted_layers,
)
from medsal.targets import ClassScore, Predicted


class Net(nn.Module):
    """Registered in another order than it runs; normalisation, dropout, a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.last = nn.Conv2d(6, 5, 3, padding=1)
        self.scale = nn.Parameter(torch.ones(1, 5, 1, 1) * 1.5)
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        features = self.last(self.first(image)).relu() * self.scale
        return self.head(features.flatten(2).mean(2))


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    made = Net()
    made.first[1].running_mean.uniform_(-0.2, 0.2)
    return made.eval()


def image() -> Tensor:
    return torch.randn(2, 1, 12, 14, generator=torch.Generator().manual_seed(1))


def test_layers_come_from_the_output_to_the_input() -> None:
    order = weighted_layers(Probe(net(), ClassScore(0)), image())
    assert order == ("", "head", "last", "first.1", "first.0")


def test_weights_that_are_used_without_a_call_stand_with_the_module_around_them() -> None:
    class Attended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Conv1d(1, 8, 3), nn.Linear(8, 2)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, image: Tensor) -> Tensor:
            tokens = self.first(image).mT
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    order = weighted_layers(Probe(Attended().eval(), ClassScore(0)), torch.rand(1, 1, 9))
    assert order == ("head", "attention.out_proj", "attention", "first")


@pytest.mark.parametrize("how", ["reset", "permute", "normal"])
@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_the_model_keeps_its_weights(mode: str, how: str) -> None:
    model = net().train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    randomisation(Probe(model, Predicted()), image(), Gradient(), mode=mode, how=how)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert model.training
    assert all(each.requires_grad and each.grad is None for each in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


class Untouched:
    """A method whose map says which of three layers still have the weights of a model."""

    def __init__(self, model: Net) -> None:
        self.held = copy.deepcopy(self.layers(model))

    @staticmethod
    def layers(model: nn.Module) -> list[nn.Module]:
        return [model.head, model.last, model.first[0]]

    def __call__(self, probe: Probe, image: Tensor) -> Tensor:
        pairs = zip(self.layers(probe.model), self.held, strict=True)
        same = [torch.equal(layer.weight, held.weight) for layer, held in pairs]
        return torch.tensor(same).float().reshape(1, 1, 1, 3)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cascading", [[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]),
        ("independent", [[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1], [1, 1, 0]]),
    ],
)
def test_cascading_goes_down_and_independent_puts_back(
    mode: str, expected: list[list[float]]
) -> None:
    model = net()
    steps = randomised_maps(
        Probe(model, ClassScore(0)), torch.rand(1, 1, 1, 3), Untouched(model), mode=mode
    )
    layers, maps = zip(*steps, strict=True)
    assert layers == (("",), ("head",), ("last",), ("first.1",), ("first.0",))
    assert [each.flatten().tolist() for each in maps] == expected


def test_layers_go_in_groups() -> None:
    found = randomisation(Probe(net(), ClassScore(0)), image(), Gradient(), steps=2)
    assert found.layers == (("", "head"), ("last", "first.1", "first.0"))
    assert found.similarity.rank.shape == (2, 2)


def test_what_does_not_look_at_the_network_stays_as_it_was() -> None:
    """An edge detector, as in the paper: no figure moves from 1."""

    def edges(probe: Probe, image: Tensor) -> Tensor:
        return image.diff(dim=-1, prepend=image[..., :1])

    found = randomisation(Probe(net(), ClassScore(0)), image(), edges)
    for each in (found.similarity.rank, found.similarity.magnitude, found.similarity.ssim):
        torch.testing.assert_close(each, torch.ones(2, 5))


@pytest.mark.parametrize("how", ["reset", "permute", "normal"])
def test_a_gradient_that_is_the_weights_is_lost_with_them(how: str) -> None:
    """Of a linear score the map is the weights: what is left is the chance of 2500 voxels."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(2500, 2))
    asked = Probe(linear, ClassScore(1))
    found = randomisation(asked, torch.rand(1, 1, 50, 50), Gradient("sum"), how=how)
    assert found.layers == (("1",),)
    assert abs(found.similarity.rank.item()) < 4 / 50
    assert abs(found.similarity.magnitude.item()) < 4 / 50


def test_how_weights_are_drawn() -> None:
    model = net()
    permuted, normal, reset, again = (copy.deepcopy(model) for _ in range(4))
    randomise(permuted, ["last"], "permute")
    was, now = model.last.weight.flatten(), permuted.last.weight.flatten()
    assert not torch.equal(was, now)
    assert torch.equal(was.sort().values, now.sort().values)
    randomise(normal, ["last"], "normal")
    assert normal.last.weight.std().item() == pytest.approx(
        model.last.weight.std().item(), rel=0.15
    )
    randomise(reset, ["first.1", "head", ""], "reset", seed=5)
    assert torch.equal(reset.first[1].running_mean, torch.zeros(6))
    assert torch.equal(reset.last.weight, model.last.weight)
    # A layer without reset_parameters: numbers that are all equal have nothing to draw from.
    assert torch.equal(reset.scale, model.scale)
    randomise(again, ["first.1", "head", ""], "reset", seed=5)
    assert torch.equal(again.head.weight, reset.head.weight)


def test_label_randomisation_compares_two_networks() -> None:
    asked = Probe(net(), Predicted())
    same = label_randomisation(asked, image(), GradCAM("last"), copy.deepcopy(asked.model))
    assert same.rank.tolist() == pytest.approx([1, 1])
    other = label_randomisation(asked, image(), GradCAM("last"), net(seed=1))
    assert (other.rank < 0.9).all()


class Opposed(nn.Module):
    """Two classes with logits a and -a, a third that nothing speaks for or against."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)

    def forward(self, image: Tensor) -> Tensor:
        score = self.first(image).relu().flatten(1).sum(1)
        return torch.stack([score, -score, 0 * score], 1)


def test_opposed_classes_have_opposed_maps() -> None:
    classes = tuple(ClassScore(i) for i in range(3))
    found = target_sensitivity(Probe(Opposed(), classes), image(), Gradient("sum"))
    assert found.rank.shape == (2, 3, 3)
    assert found.rank[:, 0, 1].tolist() == pytest.approx([-1, -1])
    assert found.magnitude[:, 0, 1].tolist() == pytest.approx([1, 1])
    # An empty map orders nothing.
    assert found.rank[:, 0, 2].tolist() == [0, 0]


def test_what_does_not_fit_is_refused() -> None:
    asked = Probe(net(), ClassScore(0))
    with pytest.raises(ValueError, match="steps"):
        randomisation(asked, image(), Gradient(), steps=0)
    with pytest.raises(ValueError, match="with weights"):
        randomisation(Probe(nn.Flatten(), lambda x: x.sum(1)), image(), Gradient())
    with pytest.raises(ValueError, match="two targets or more"):
        target_sensitivity(asked, image(), Gradient())
    with pytest.raises(ValueError, match="one target"):
        randomisation(Probe(asked.model, (ClassScore(0), ClassScore(1))), image(), Gradient())
    with pytest.raises(LookupError, match="'firts'"):
        randomise(net(), ["firts"])
    stubborn = net()
    stubborn.kept = torch.ones(2, requires_grad=True) * 2  # deepcopy refuses what is no leaf
    with pytest.raises(TypeError, match=r"copy\.deepcopy"):
        randomisation(Probe(stubborn, ClassScore(0)), image(), Gradient())
