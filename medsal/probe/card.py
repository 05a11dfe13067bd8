"""Which model a map explains."""

import hashlib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.layers import modules_of


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
# How many numbers of each tensor tell whether it was written through `.data`.
_SAMPLE = 16


def card(model: nn.Module) -> ModelCard:
    """The card of a model; hashed again only where its state has changed.

    Addresses and version counters tell of a change. They miss what is written through `.data`: of
    that, numbers spread over each tensor tell. To hash, or just to read, all weights at each call
    may take as long as a forward pass of a photograph.
    """
    state = _state(model)
    mark = _mark(state)
    known = _cards.get(model)
    if known and known[0] == mark:
        return known[1]
    new = ModelCard(type(model).__name__, _size(model), _sha256(state))
    _cards[model] = (mark, new)
    return new


def _state(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, each under its first name."""
    modules = modules_of(model)
    found: dict[int, tuple[str, Tensor]] = {}
    for name, module in modules:
        for store in (module._parameters, module._buffers):
            for key, each in store.items():
                if each is not None and id(each) not in found:
                    found[id(each)] = (f"{name}.{key}" if name else key, each)
    return dict(found.values())


def _mark(state: Mapping[str, Tensor]) -> list[Any]:
    """What differs when the state does."""
    mark: list[Any] = []
    samples: dict[Any, list[Tensor]] = {}
    with torch.no_grad():
        for name, each in state.items():
            mark += (name, each.data_ptr(), -1 if each.is_inference() else each._version)
            samples.setdefault((each.device, each.dtype), []).append(_sample(each))
        return mark + [_bytes(torch.cat(each)).cpu().numpy().tobytes() for each in samples.values()]


def _sample(tensor: Tensor) -> Tensor:
    """Some of its numbers, far apart; all of them where nothing counts what is written."""
    count = tensor.numel()
    if count <= _SAMPLE or tensor.is_inference() or not tensor.is_contiguous():
        return tensor.flatten()
    return tensor.as_strided((_SAMPLE,), (count // _SAMPLE,))


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
