"""Visits of one model that overlap, and what tells that its state has changed."""

from contextlib import ExitStack
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from core_nets import state_of
from torch import nn

from medsal import Probe, explain, targets
from medsal.probe import visiting
from medsal.probe.visits.holding import Stay


def network() -> nn.Sequential:
    torch.manual_seed(3)
    inner = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    return nn.Sequential(inner, nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).train()


@pytest.mark.parametrize("order", ["model first", "part first"])
@pytest.mark.parametrize("leaves", ["first", "last"])
def test_a_model_and_a_part_of_it_are_put_back_by_the_last_visitor(order: str, leaves: str) -> None:
    model = network()
    before = state_of(model)
    both = [model, model[0]] if order == "model first" else [model[0], model]
    one, two = ExitStack(), ExitStack()
    one.enter_context(visiting(both[0]))
    two.enter_context(visiting(both[1]))
    model[0][1].running_mean.fill_(7)
    early, late = (one, two) if leaves == "first" else (two, one)
    early.close()
    assert not any(each.training for each in model.modules())
    assert not any(each.requires_grad for each in model.parameters())
    late.close()
    assert state_of(model) == before


def test_visits_of_two_parts_are_joined_by_one_of_the_whole() -> None:
    model = network()
    before = state_of(model)
    stacks = [ExitStack() for _ in range(3)]
    for stack, module in zip(stacks, [model[0], model[3], model], strict=True):
        stack.enter_context(visiting(module))
    for stack in stacks[:2]:
        stack.close()
    assert not model[0].training
    assert not model[3].training
    stacks[2].close()
    assert state_of(model) == before


def test_buffers_that_hold_no_numbers_stay_as_they_are() -> None:
    model = network()
    model[0][1].running_mean.fill_(torch.nan)
    version = model[0][1].running_mean._version
    with visiting(model):
        pass
    assert model[0][1].running_mean.isnan().all()
    assert model[0][1].running_mean._version == version


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("first", torch.zeros(2))
        self.register_buffer("second", torch.zeros(3))


def test_where_memory_ends_among_the_copies_all_is_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Sequential(Own(), Own()).train()
    buffers, before, copied = [*model.buffers()], state_of(model), []

    def copy_of(stay: Stay, tensor: torch.Tensor) -> torch.Tensor:
        copied.append(tensor)
        if len(copied) == 3:
            raise MemoryError("no more")
        return tensor.clone()

    monkeypatch.setattr(Stay, "copy_of", copy_of)
    with pytest.raises(MemoryError, match="no more"), visiting(model):
        pass
    assert all(one is other for one, other in zip(model.buffers(), buffers, strict=True))
    assert state_of(model) == before


def test_the_fingerprint_tells_of_what_no_counter_counts() -> None:
    model = network()
    asked = Probe(model, targets.ClassScore(0))
    found = [asked.card().sha256]
    model[0](torch.randn(2, 1, 8, 8))  # a batch norm's statistics
    found.append(asked.card().sha256)
    model[3].bias.data[1] += 1
    found.append(asked.card().sha256)
    model[3].weight.data += 1
    found.append(asked.card().sha256)
    assert len(set(found)) == 4
    assert asked.card().sha256 == found[-1]


def test_an_explanation_looks_through_the_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, looks = network().eval(), []
    for name in ("probe", "visits.visiting", "visits.card"):
        module = import_module(f"medsal.probe.{name}")
        looked = module.inventory_of
        monkeypatch.setattr(module, "inventory_of", lambda m, f=looked: looks.append(m) or f(m))
    explain(model, torch.randn(1, 1, 8, 8), 0, "smoothgrad", samples=4)
    assert looks == [model]


def test_a_method_may_ask_another_model_in_between() -> None:
    model, other, image = network(), network(), torch.randn(1, 1, 8, 8)
    for each in other.parameters():
        torch.nn.init.normal_(each)
    before = state_of(model), state_of(other)
    seen = []

    def other_one(probe: Probe, image: torch.Tensor) -> torch.Tensor:
        asked = replace(probe, model=other)
        seen.extend([probe.gradient(image), asked.gradient(image), asked.card()])
        return seen[1]

    explain(model, image, 0, other_one)
    assert torch.equal(seen[0], Probe(model, targets.ClassScore(0)).gradient(image))
    assert torch.equal(seen[1], Probe(other, targets.ClassScore(0)).gradient(image))
    assert seen[2] == Probe(other, targets.ClassScore(0)).card()
    assert (state_of(model), state_of(other)) == before
