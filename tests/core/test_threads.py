"""Several threads explain with one model at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from core_nets import Nasty, Residual, Tiny, image, spatial, state_of
from torch import Tensor, nn

import medsal

ASKED: list[dict[str, Any]] = [
    {"method": "gradcam", "layer": "last", "target": 0},
    {"method": "gradcam", "layer": "again", "target": [1, 2]},
    {"method": "guided_backprop", "target": 1},
    {"method": "gradient", "target": None},
    {"method": "guided_gradcam", "layer": "block"},
    {"method": "gradcam", "target": lambda output: output[:, 0] - output[:, 2]},
]


@pytest.mark.parametrize("threads", [2, 4])
def test_the_results_are_those_of_a_single_thread(threads: int) -> None:
    torch.manual_seed(7)
    model, x = Nasty(2), image(2)
    before = state_of(model)
    alone = [medsal.explain(model, x, **asked).data for asked in ASKED]
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            (i % len(ASKED), pool.submit(medsal.explain, model, x, **ASKED[i % len(ASKED)]))
            for i in range(48)
        ]
        results = [(i, job.result().data) for i, job in jobs]
    for i, data in results:
        assert torch.equal(data, alone[i]), ASKED[i]
    assert state_of(model) == before


class Meeting(nn.Module):
    """All threads must be inside the network at once before any goes on."""

    def __init__(self, inner: nn.Module, threads: int) -> None:
        super().__init__()
        self.inner = inner
        self.barrier = threading.Barrier(threads, timeout=20)

    def forward(self, x: Tensor) -> Tensor:
        self.barrier.wait()
        y = self.inner(x)
        self.barrier.wait()
        return y


def test_threads_that_are_in_the_network_at_the_same_time() -> None:
    torch.manual_seed(7)
    model = Meeting(Residual(2, nn.ReLU(inplace=True)), 3).train()
    model.inner.first = nn.Conv2d(1, 4, 3, padding=1)
    model.inner.first.weight.requires_grad_(False)
    model.inner.norm.eval()
    x, before = image(2), state_of(model)
    generator = torch.get_rng_state()
    score = lambda output: output.flatten(1).sum(1)  # noqa: E731

    def ask(method: str) -> Tensor:
        return medsal.Probe(model, score).gradient(x, method) if method else tap()

    def tap() -> Tensor:
        return medsal.Probe(model, score).tapped(x, "inner.norm")[1]

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(ask, ["plain", "guided", ""]))
    model.barrier = threading.Barrier(1)
    for method, data in zip(["plain", "guided", ""], found, strict=True):
        assert torch.equal(data, ask(method)), method
    assert not torch.equal(found[0], found[1])
    model.barrier = None
    assert {k: v for k, v in state_of(model).items() if k} == {k: v for k, v in before.items() if k}
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_failing_thread_does_not_disturb_the_others() -> None:
    model, x = Tiny(2).train(), image(2)
    before = state_of(model)
    usual = medsal.explain(model, x, 0).data

    def failing(output: Tensor) -> Tensor:
        raise KeyError

    def ask(i: int) -> bool:
        if i % 2:
            return torch.equal(medsal.explain(model, x, 0).data, usual)
        with pytest.raises(KeyError):
            medsal.explain(model, x, failing)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(40)))
    assert state_of(model) == before


def test_another_threads_own_forward_pass_is_left_alone() -> None:
    """Somebody runs the network while it is explained: the hooks are not for them."""
    model, x = Tiny(2).eval(), image(2)
    inside, done = threading.Event(), threading.Event()
    seen: list[Tensor] = []

    def other() -> None:
        inside.wait(20)
        with torch.no_grad():
            seen.append(model(x))
        done.set()

    def slow(output: Tensor) -> Tensor:
        inside.set()
        assert done.wait(20)
        return output[:, 0]

    thread = threading.Thread(target=other)
    thread.start()
    medsal.explain(model, x, slow)
    thread.join()
    assert not seen[0].requires_grad
    assert torch.equal(seen[0], model(x))
    assert spatial(x) == (2, 3)
