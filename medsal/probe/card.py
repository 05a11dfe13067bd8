"""Which model a map explains."""

import hashlib
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.layers import modules_of, reject_lazy


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


def card(model: nn.Module) -> ModelCard:
    """The card of a model; hashed again only where its state has changed.

    Addresses and version counters tell of a change. They miss what is written through `.data`, or
    by a batch norm to its statistics: of that, the numbers of small tensors tell, and some, far
    apart, of large ones. To hash, or just to read, all weights at each call may take as long as a
    forward pass of a photograph.

    Raises:
        ValueError: when a lazy module has not been run yet.
    """
    modules = modules_of(model)
    reject_lazy(modules)
    mark = _mark(modules)
    known = _cards.get(model)
    if known and known[0] == mark:
        return known[1]
    new = ModelCard(type(model).__name__, _size(model), _sha256(_state(modules)))
    _cards[model] = (mark, new)
    return new


def _state(modules: Sequence[tuple[str, nn.Module]]) -> dict[str, Tensor]:
    """All parameters and buffers, each under its first name."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, module in modules:
        for store in (module._parameters, module._buffers):
            for key, each in store.items():
                if each is not None and id(each) not in found:
                    found[id(each)] = (f"{name}.{key}" if name else key, each)
    return dict(found.values())


def _mark(modules: Sequence[tuple[str, nn.Module]]) -> Any:
    """What differs when the state does."""
    owners = [(name, each) for name, each in modules if each._parameters or each._buffers]
    names = [(name, *each._parameters.keys(), *each._buffers.keys()) for name, each in owners]
    stores = (store.values() for _, each in owners for store in (each._parameters, each._buffers))
    state = [each for each in chain.from_iterable(stores) if each is not None]
    # What is written to tensors of inference mode is not counted.
    counts = [-1 if each.is_inference() else each._version for each in state]
    return names, [each.data_ptr() for each in state], counts, _samples(state, counts)


def _samples(state: Sequence[Tensor], counts: Sequence[int]) -> list[Any]:
    """Of what may be written and is not counted: all of small tensors, samples of large ones."""
    kinds: dict[Any, list[Tensor]] = {}
    for each, count in zip(state, counts, strict=True):
        kinds.setdefault((each.dtype, each.device, count < 0), []).append(each)
    found: list[Any] = []
    with torch.no_grad():
        for (*_, uncounted), tensors in kinds.items():
            most = inf if uncounted else _SMALL
            small = [e if e.ndim == 1 else e.reshape(-1) for e in tensors if e.numel() <= most]
            large = [_sample(each) for each in tensors if each.numel() > most]
            found += [bits_of(torch.cat(small))] if small else []
            found += [_bytes(torch.cat(large)).cpu().numpy().tobytes()] if large else []
    return found


def _sample(tensor: Tensor) -> Tensor:
    """Some of its numbers, far apart."""
    if not tensor.is_contiguous():
        return tensor.reshape(-1)
    return tensor.as_strided((_SAMPLE,), (tensor.numel() // _SAMPLE,))


def bits_of(tensor: Tensor) -> int:
    """The sum of all bits' words: quick, and another one when something was written."""
    content = tensor.detach().contiguous().view(-1)
    width = content.element_size()
    # Sums of long integers are quick; they start at multiples of eight bytes.
    whole = not content.numel() * width % 8 and not content.storage_offset() * width % 8
    return int(content.view(torch.int64 if whole else torch.uint8).sum())


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
