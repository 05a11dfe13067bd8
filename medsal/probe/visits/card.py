"""Which model a map explains."""

import hashlib
import weakref
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter, not_
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.visits.inventory import Inventory, inventory_of, modules_of
from medsal.probe.visits.rows import alike, in_a_row, sum_of


@dataclass(frozen=True)
class ModelCard:
    """Which model a map explains.

    Attributes:
        name: its class.
        parameters: how many numbers its parameters hold.
        sha256: of its state: names, types, shapes and content of all parameters and buffers.
    """

    name: str
    parameters: int
    sha256: str


_cards: "weakref.WeakKeyDictionary[nn.Module, tuple[Any, ModelCard]]" = weakref.WeakKeyDictionary()
# How many numbers of a tensor tell whether it was written past its counter, where it has more than
# `_SMALL`; of others, all.
_SAMPLE, _SMALL = 16, 4096


def card(model: nn.Module, known: Inventory | None = None) -> ModelCard:
    """The card of a model; hashed again only where its state has changed.

    Addresses and version counters tell of a change. They miss what is written through `.data`, or
    by a batch norm to its statistics: of that, the numbers of small tensors tell, and some, far
    apart, of large ones. To hash, or just to read, all weights at each call may take as long as a
    forward pass of a photograph.

    Args:
        model: any module.
        known: what it is made of, where it has just been looked through.

    Raises:
        ValueError: when a lazy module has not been run yet.
    """
    mark = _mark(known or inventory_of(model))
    last = _cards.get(model)
    if last and last[0] == mark:
        return last[1]
    new = ModelCard(type(model).__name__, _size(model), _sha256(_state(model)))
    _cards[model] = (mark, new)
    return new


def _state(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, each under its first name."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, module in modules_of(model):
        for store in (module._parameters, module._buffers):
            for key, each in store.items():
                if each is not None and id(each) not in found:
                    found[id(each)] = (f"{name}.{key}" if name else key, each)
    return dict(found.values())


def _mark(found: Inventory) -> Any:
    """What differs when the state does."""
    state = found.state
    # What is written to tensors of inference mode is not counted.
    uncounted = set(map(id, found.inference))
    counted = [each for each in state if id(each) not in uncounted] if uncounted else state
    counts = [*map(attrgetter("_version"), counted)]
    addresses = [*map(Tensor.data_ptr, state)]
    return found.tree, found.keys, addresses, counts, _samples(state, uncounted)


def _samples(state: Sequence[Tensor], uncounted: Collection[int]) -> list[Any]:
    """Of what may be written and is not counted: all of small tensors, samples of large ones."""
    sizes = [*map(Tensor.numel, state)]
    large = [n > _SMALL for n in sizes]
    if uncounted:
        large = [a and id(each) not in uncounted for a, each in zip(large, state, strict=True)]
    small = [*compress(state, map(not_, large))]
    with torch.no_grad():
        sums = [sum_of(in_a_row(row)) for row in alike(small)]
        parts = [*map(_sample, compress(state, large), compress(sizes, large))]
        rows = [in_a_row(row) for row in (*alike(sums), *alike(parts))]
        return [_bytes(each).cpu().numpy().tobytes() for each in rows]


def _sample(tensor: Tensor, size: int) -> Tensor:
    """Some of its numbers, far apart."""
    if not tensor.is_contiguous():
        return tensor.reshape(-1)
    return tensor.as_strided((_SAMPLE,), (size // _SAMPLE,))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _sha256(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor).cpu().numpy().data)
    return digest.hexdigest()
