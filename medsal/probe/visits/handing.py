"""What goes into a network: the image itself, or a copy where the network would write into it.

The image is the caller's, and a network may write into its input. It is lent: as a tensor that
knows of each call on it, and stops those that may write before they do.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from medsal.probe.visits.rows import bits_of

_alone: "weakref.WeakKeyDictionary[nn.Module, dict[Any, bool]]" = weakref.WeakKeyDictionary()
# What hands out the memory itself, to other code or another tensor.
_EXPOSING = {
    "numpy", "__array__", "__dlpack__", "data_ptr", "storage", "untyped_storage", "_typed_storage",
    "__set__", "set_",
}  # fmt: skip
_OPERATORS = {
    f"__i{name}__"
    for name in (
        "add", "sub", "mul", "matmul", "truediv", "div", "floordiv", "mod", "pow", "lshift",
        "rshift", "and", "or", "xor",
    )
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
        if _may_write(func, args, given):
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


def _may_write(func: Any, args: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Whether a call may write to what was lent, or hands out its memory."""
    name = getattr(func, "__name__", "")
    if not name or isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return True  # some library's own
    if name in _EXPOSING:
        return True
    in_place = name.endswith("_") and not name.endswith("__")
    in_place = in_place or name == "__setitem__" or name in _OPERATORS or bool(given.get("inplace"))
    written = [given.get("out")]
    if in_place:
        written += [args[0] if args else given]
    return any(isinstance(each, _Lent) for each in tree_leaves(written))


def handed(model: nn.Module, key: Any, image: Tensor, ask: Callable[[Tensor], Any]) -> Any:
    """What a network says of an image ``(n, c, *s)``, which stays as it is.

    Args:
        model: the network.
        key: what it depends on besides, whether the network writes into its input.
        image: an ordinary tensor.
        ask: runs the network.

    Raises:
        WantsCopyError: where a network may write into what it was lent. From then on it gets a
            copy.
        RuntimeError: where it did, the first time, in a way that can't be seen.
    """
    known = _alone.setdefault(model, {})
    if key not in known and any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        known[key] = False  # its calls can't be seen
    if known.get(key) is False:
        return ask(image.clone())
    bits = None if key in known else bits_of(image)
    try:
        output = ask(image.as_subclass(_Lent))
    except WantsCopyError:
        known[key] = False
        raise
    if bits is not None and bits != bits_of(image):
        known[key] = False
        raise RuntimeError(
            f"{type(model).__name__} has written into its image by code that torch knows nothing "
            f"of, so the image is not what it was; give it a copy: image.clone()"
        )
    known[key] = True
    with torch._C.DisableTorchFunctionSubclass():
        # What is handed on as it is would be the caller's own.
        return tree_map_only(_Lent, lambda each: _unwrapped(each).clone(), output)
