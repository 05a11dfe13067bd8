"""Things that visits change: noted and changed by the first visitor, put back by the last one.

Several threads may visit one model at once, and a model and a part of it. Visits that share an
owner of such things make one stay: each owner is changed once, and all are put back as the last of
these visitors leaves.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

_LOCK = threading.RLock()


class Stay:
    """Visits that share an owner.

    Attributes:
        owners: by key; they are kept, so that an id stays their own.
        undo: what puts things back, in the order in which they were changed.
        copies: of tensors, by the original's id: the same one wherever a tensor is shared.
        visitors: how many there are.
    """

    def __init__(self) -> None:
        self.owners: dict[Any, object] = {}
        self.undo: list[Callable[[], Any]] = []
        self.copies: dict[int, Tensor] = {}
        self.visitors = 0
        self._joined: Stay | None = None

    def copy_of(self, tensor: Tensor) -> Tensor:
        """A copy; no graph is recorded where this is called."""
        key = id(tensor)
        if key not in self.copies:
            self.copies[key] = tensor.clone()
        return self.copies[key]

    def join(self, other: "Stay") -> None:
        """Take over what another one has to put back."""
        self.owners |= other.owners
        self.undo += other.undo
        self.copies |= other.copies
        self.visitors += other.visitors
        other._joined = self

    def last(self) -> "Stay":
        """The stay that this one has become a part of."""
        return self if self._joined is None else self._joined.last()


_stays: list[Stay] = []


@contextmanager
def held(
    owners: Mapping[Any, object], change: Callable[[Stay, Collection[Any]], Any]
) -> Iterator[None]:
    """Hold owners of things that are changed inside.

    Args:
        owners: by key: their id, or a name.
        change: called with the stay and the keys of owners that nobody holds yet: changes these
            and adds to ``undo`` how.
    """
    with _LOCK:
        others = [each for each in _stays if not owners.keys().isdisjoint(each.owners)]
        stay = Stay()
        for each in others:
            stay.join(each)
            _stays.remove(each)
        fresh = owners.keys() - stay.owners.keys() if others else owners.keys()
        _stays.append(stay)
        stay.visitors += 1
        try:
            stay.owners |= owners
            change(stay, fresh)
        except BaseException:
            _leave(stay)
            raise
    try:
        yield
    finally:
        _leave(stay)


def _leave(stay: Stay) -> None:
    with _LOCK:
        stay = stay.last()
        stay.visitors -= 1
        if not stay.visitors:
            _stays.remove(stay)
            for each in reversed(stay.undo):
                each()
