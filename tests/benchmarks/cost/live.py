"""The bytes of live tensors: what a pass needs, whatever the allocator makes of it."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Live(TorchDispatchMode):
    """The bytes of tensors that are alive, and their peak: what is made inside, and not outside."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {id(s) for s in self._storages((args, kwargs))}
        output = func(*args, **(kwargs or {}))
        for storage in self._storages(output):
            key = storage._cdata
            if key not in self._held and id(storage) not in given:
                self._held[key] = storage.nbytes()
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, key)
        return output

    def _storages(self, tree: Any) -> list[Any]:
        return [x.untyped_storage() for x in tree_leaves(tree) if isinstance(x, Tensor)]

    def _freed(self, key: int) -> None:
        self.now -= self._held.pop(key, 0)


def live(run: Callable[[], Any]) -> int:
    """The peak of a call that is not the first one."""
    run()
    with Live() as found:
        run()
    return found.peak
