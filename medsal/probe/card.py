"""Which model a map explains."""

import hashlib
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


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


def card(model: nn.Module) -> ModelCard:
    """The card of a model; hashed again only where a tensor was written to or replaced."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    # Inference tensors count no versions: their hash is not remembered.
    if any(tensor.is_inference() for tensor in state.values()):
        return ModelCard(type(model).__name__, _size(model), _sha256(state))
    version = [
        (name, id(tensor), tensor._version, tensor.data_ptr()) for name, tensor in state.items()
    ]
    known = _cards.get(model)
    if known and known[0] == version:
        return known[1]
    new = ModelCard(type(model).__name__, _size(model), _sha256(state))
    _cards[model] = (version, new)
    return new


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _sha256(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().flatten()
        digest.update(content.view(torch.uint8).numpy().tobytes() if content.numel() else b"")
    return digest.hexdigest()
