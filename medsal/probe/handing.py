"""What goes into a network: a copy of the image, or the image where that stays as it is.

A network may write into its input, and the image is the caller's. The first time a copy goes in,
and afterwards it is seen whether it was written. A network that left it alone is lent the image
itself from then on: a tensor that knows of each call on it, and stops those that may write.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

_alone: "weakref.WeakKeyDictionary[nn.Module, dict[Any, bool]]" = weakref.WeakKeyDictionary()
# What hands out the memory itself.
_EXPOSING = {
    "numpy", "__array__", "__dlpack__", "data_ptr", "storage", "untyped_storage", "_typed_storage",
    "__set__", "__setitem__",
}  # fmt: skip


class WantsCopyError(Exception):
    """A network that was lent the image may write into it."""


class _Lent(Tensor):
    """The image, or a view of it, that is not to be written."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if _may_write(func, given):
            raise WantsCopyError(func.__name__)
        with torch._C.DisableTorchFunctionSubclass():
            lent = [each for each in tree_leaves((args, given)) if isinstance(each, _Lent)]
            memory = {each.untyped_storage().data_ptr() for each in lent}
            args, given = tree_map_only(_Lent, _unwrapped, (tuple(args), given))
        output = func(*args, **given)

        def lent_on(each: Tensor) -> Tensor:
            return each.as_subclass(_Lent) if _address(each) in memory else each

        return tree_map_only(Tensor, lent_on, output)


def _unwrapped(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Tensor)


def _address(tensor: Tensor) -> int | None:
    strided = tensor.layout == torch.strided
    return tensor.untyped_storage().data_ptr() if strided else None


def _may_write(func: Any, given: Mapping[str, Any]) -> bool:
    name = getattr(func, "__name__", "")
    if not name or isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return True  # some library's own
    in_place = name.endswith("_") and not name.endswith("__")
    in_place = in_place or (name.startswith("__i") and name not in ("__index__", "__int__"))
    return (
        in_place or name in _EXPOSING or bool(given.get("inplace")) or given.get("out") is not None
    )


def handed(model: nn.Module, key: Any, image: Tensor, ask: Callable[[Tensor], Any]) -> Any:
    """What a network says of an image ``(n, c, *s)``, which stays as it is.

    Args:
        model: the network.
        key: what it depends on besides, whether the network writes into its input.
        image: an ordinary tensor.
        ask: runs the network.

    Raises:
        WantsCopyError: where a network that left its input alone before may write into it now. From
            then on it gets a copy.
    """
    known = _alone.setdefault(model, {})
    if known.get(key):
        try:
            return ask(image.as_subclass(_Lent))
        except WantsCopyError:
            known[key] = False
            raise
    copy = image.clone()
    output = ask(copy)
    if key not in known:
        known[key] = copy._version == 0 and torch.equal(copy, image)
    return output
