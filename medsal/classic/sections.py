"""A network named in sections: names that must exist, and the network without its last layer."""

import copy
from collections.abc import Sequence

from torch import nn

from medsal.probe import named_layer


def check_names(
    model: nn.Module,
    sections: Sequence[str | Sequence[str]] | None,
    target_layer: str | None,
    adaptive_layer: str | None,
) -> str:
    """Whether all layers that are named exist; gives the dotted name of the last one.

    Raises:
        LookupError: when one does not; near names are given.
        ValueError: for other than two sections.
        TypeError: for sections that are no names.
    """
    parts = [] if sections is None else [_names(each) for each in sections]
    if sections is not None and len(parts) != 2:
        raise ValueError(
            f"expected two sections, of the convolutional and of the fully connected part, got "
            f"{len(parts)}; for example [['features'], ['classifier']]"
        )
    named = [name for part in parts for name in part]
    for name in [*named, *filter(None, (target_layer, adaptive_layer))]:
        named_layer(model, name)
    ends = parts[1][-1] if parts and parts[1] else ""
    leaves: list[str] = [name for name, each in model.named_modules() if not any(each.children())]
    inside = [name for name in leaves if not ends or name == ends or name.startswith(f"{ends}.")]
    return inside[-1]


def without_last(model: nn.Module, last: str) -> nn.Module:
    """The model with one layer passed over; all others, and their weights, are the model's own.

    Raises:
        ValueError: when the layer has weights, so that the classes would be lost with it.
    """
    layer, _ = named_layer(model, last)
    if any(True for _ in layer.parameters()):
        raise ValueError(
            f"expected a softmax or sigmoid as the last layer, got {last!r} "
            f"({type(layer).__name__}), without which there are no classes; use "
            f"ignore_lastlayer=False"
        )
    return _replaced(model, last.split("."))


def _replaced(module: nn.Module, path: Sequence[str]) -> nn.Module:
    # Only what holds the layer is copied: the model is left as it is, for other threads as well.
    if not path:
        return nn.Identity()
    twin = copy.copy(module)
    for store in ("_parameters", "_buffers", "_modules"):
        setattr(twin, store, dict(getattr(module, store)))
    twin._modules[path[0]] = _replaced(getattr(module, path[0]), path[1:])
    return twin


def _names(section: str | Sequence[str]) -> list[str]:
    names = [section] if isinstance(section, str) else list(section)
    if not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"expected the names of a section's layers, got {section!r}")
    return names
