"""Things that visits change: noted and changed by the first visitor, put back by the last one.

Several threads may visit one model at once, and a model and a part of it. Each thing is therefore
held once, by its owner; whoever holds an owner keeps it, so that its id stays its own.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

LOCK = threading.RLock()


class Attribute:
    """An attribute of many owners that is False for the time of a visit.

    Args:
        write: sets it for an owner.
        name: of the attribute.
    """

    def __init__(self, name: str, write: Callable[[Any, bool], Any]) -> None:
        self._name, self._write = name, write
        self._before: dict[int, bool] = {}
        self._visits: dict[int, int] = {}

    def hold(self, owners: Sequence[Any]) -> None:
        before, visits, name = self._before, self._visits, self._name
        for owner in owners:
            key = id(owner)
            if key not in before:
                before[key] = getattr(owner, name)
                if before[key]:
                    self._write(owner, False)
            visits[key] = visits.get(key, 0) + 1

    def release(self, owners: Sequence[Any]) -> None:
        before, visits, name = self._before, self._visits, self._name
        for owner in owners:
            key = id(owner)
            visits[key] -= 1
            if not visits[key]:
                del visits[key]
                value = before.pop(key)
                # A forward pass may set modes and flags itself.
                if getattr(owner, name) != value:
                    self._write(owner, value)


class Buffers:
    """The buffers of many modules of torch's own: the forward pass may write to copies of them."""

    def __init__(self) -> None:
        self._before: dict[int, dict[str, Tensor | None]] = {}
        self._visits: dict[int, int] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._before

    def hold(self, owners: Sequence[nn.Module], copies: dict[int, Tensor]) -> None:
        for owner in owners:
            key = id(owner)
            if key not in self._before:
                buffers = owner._buffers
                self._before[key] = dict(buffers)
                for name, buffer in self._before[key].items():
                    if buffer is not None:
                        buffers[name] = copy_of(buffer, copies)
            self._visits[key] = self._visits.get(key, 0) + 1

    def release(self, owners: Sequence[nn.Module]) -> None:
        for owner in owners:
            key = id(owner)
            self._visits[key] -= 1
            if not self._visits[key]:
                del self._visits[key]
                before = self._before.pop(key)
                for name in owner._buffers.keys() - before.keys():
                    del owner._buffers[name]
                # Entry by entry: someone else's forward pass may be reading.
                owner._buffers.update(before)


@dataclass
class _Held:
    """Another thing that visits changed, how to put it back, and by how many it is held."""

    owner: object
    restore: Callable[[], Any]
    visits: int = 0


_held: dict[tuple[int, str], _Held] = {}


def hold_all(leaving: ExitStack, aspect: Any, owners: Sequence[Any], *more: Any) -> None:
    """Hold an aspect of many owners until the stack is left."""
    with LOCK:
        aspect.hold(owners, *more)
        leaving.callback(_release_all, aspect, owners)


def _release_all(aspect: Any, owners: Sequence[Any]) -> None:
    with LOCK:
        aspect.release(owners)


def hold(
    leaving: ExitStack, owner: object, aspect: str, take: Callable[[], Callable[[], Any]]
) -> None:
    """Hold an aspect of one owner until the stack is left.

    Args:
        leaving: the stack.
        owner: what is changed.
        aspect: what of it.
        take: changes it, and gives what puts it back.
    """
    key = (id(owner), aspect)
    with LOCK:
        if key not in _held:
            _held[key] = _Held(owner, take())
        _held[key].visits += 1
        leaving.callback(_release, key)


def _release(key: tuple[int, str]) -> None:
    with LOCK:
        held = _held[key]
        held.visits -= 1
        if held.visits == 0:
            del _held[key]
            held.restore()


def is_held(owner: object, aspect: str) -> bool:
    """Whether some visit holds an aspect of an owner."""
    return (id(owner), aspect) in _held


def copy_of(tensor: Tensor, copies: dict[int, Tensor]) -> Tensor:
    """A copy, the same one wherever a tensor is shared."""
    if id(tensor) not in copies:
        copies[id(tensor)] = tensor.detach().clone()
    return copies[id(tensor)]
