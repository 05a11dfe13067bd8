"""What passes have shown of a model, kept for the next one; it holds no part of the model."""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class OnGrid:
    """A layer that has cells on a grid.

    Attributes:
        channels_last: whether its channels are on the last axis.
        call: which of the module's calls in a pass counts: a shared activation has several.
    """

    channels_last: bool
    call: int


@dataclass(eq=False)
class _Memory:
    """Of one model, by a key that tells what it depends on besides."""

    defaults: dict[Any, str] = field(default_factory=dict)
    on_grids: dict[Any, dict[str, OnGrid]] = field(default_factory=dict)
    calls: dict[Any, int] = field(default_factory=dict)
    written: set[Any] = field(default_factory=set)


_memories: "weakref.WeakKeyDictionary[nn.Module, _Memory]" = weakref.WeakKeyDictionary()


def _memory_of(model: nn.Module) -> _Memory:
    return _memories.setdefault(model, _Memory())


def remember_default(model: nn.Module, key: Any, name: str | None) -> str:
    """Keep the default layer of a model, found once for images of a shape.

    Raises:
        ValueError: when there is none.
    """
    if name is None:
        raise ValueError(
            f"no layer of {type(model).__name__} keeps the image's spatial axes: there are no "
            f"features to make a map of; name a layer (medsal.layers(model, image) lists them), "
            f"or use a method without one, such as 'gradient'"
        )
    _memory_of(model).defaults[key] = name
    return name


def remembered_default(model: nn.Module, key: Any) -> list[str]:
    """The default layer found before for this key; empty where none was."""
    return [name for name in (_memory_of(model).defaults.get(key),) if name]


def remember_on_grids(model: nn.Module, key: Any, found: Mapping[str, OnGrid]) -> None:
    """Keep which layers have cells on a grid."""
    _memory_of(model).on_grids.setdefault(key, {}).update(found)


def remembered_on_grids(model: nn.Module, key: Any) -> Mapping[str, OnGrid]:
    """The layers that were found to have cells on a grid before for this key."""
    return _memory_of(model).on_grids.get(key, {})


def remember_call(model: nn.Module, key: Any, name: str, call: int) -> None:
    """Keep which of its module's calls a layer is."""
    _memory_of(model).calls[key, name] = call


def remembered_call(model: nn.Module, key: Any, name: str) -> int | None:
    """Which of its module's calls a layer is, where that was found before for this key."""
    known = remembered_on_grids(model, key).get(name)
    return known.call if known else _memory_of(model).calls.get((key, name))


def remember_written(model: nn.Module, key: Any, name: str) -> None:
    """Keep that the network writes over what a layer puts out."""
    _memory_of(model).written.add((key, name))


def is_written(model: nn.Module, key: Any, name: str) -> bool:
    """Whether the network was seen to write over what a layer puts out."""
    return (key, name) in _memory_of(model).written


def key_of(tree: Sequence[Any], image: Tensor, kwargs: Mapping[str, Any]) -> Any:
    """What this depends on: the modules, the image's shape, how the model is asked."""
    simple = bool | int | float | str | None
    asked = tuple((k, v if isinstance(v, simple) else type(v)) for k, v in sorted(kwargs.items()))
    return (hash(tuple(tree)), image.shape, asked)
