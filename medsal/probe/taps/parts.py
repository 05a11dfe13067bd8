"""Parts of what a layer puts out: a tensor in a list, tuple or dict."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

Path = tuple[str, ...]
"""The way to a part: for ``"encoder[1][low]"`` it is ``("1", "low")``; empty = the whole."""

_NAMED = re.compile(r"(?P<name>[^\[\]]*)(?P<path>(\[[^\[\]]+\])+)")


def split_name(name: str) -> tuple[str, Path]:
    """A layer's dotted name, and the part of its output that is meant."""
    match = _NAMED.fullmatch(name)
    return (match["name"], tuple(match["path"][1:-1].split("]["))) if match else (name, ())


def chosen_part(name: str, output: Any, path: Path) -> Tensor:
    """The tensor of a layer's output that a name means.

    Raises:
        TypeError: when the output is no tensor of floats, and no part (or no such part) is named.
    """
    chosen = output
    for step in path:
        chosen = _steps(chosen).get(step)
    if isinstance(chosen, Tensor):
        if not chosen.is_floating_point():
            raise TypeError(f"expected a layer of floats, got {chosen.dtype} from layer {name!r}")
        return chosen
    shapes = ", ".join(f"'{name}{part}' {shape}" for part, shape in parts_of(output))
    kind = type(output).__name__
    raise TypeError(
        f"layer {name!r} puts out a {kind}, not one tensor; "
        f"name a part of it: {shapes or 'it has none'}"
    )


def with_part(output: Any, path: Path, tensor: Tensor) -> Any:
    """The layer's output with the chosen part replaced."""
    if not path:
        return tensor
    parts = {
        step: with_part(each, path[1:], tensor) if step == path[0] else each
        for step, each in _steps(output).items()
    }
    if isinstance(output, Mapping):
        changed: Any = dict(zip(output, parts.values(), strict=True))
        # A dict of another class keeps it: a network may ask for attributes.
        return changed if type(output) is dict else _like(output, changed)
    if hasattr(output, "_fields"):
        return type(output)(*parts.values())
    return type(output)(parts.values())


def _like(output: Any, changed: dict[Any, Any]) -> Any:
    copy = output.copy() if hasattr(output, "copy") else type(output)()
    for key, value in changed.items():
        copy[key] = value
    return copy


def parts_of(output: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """How each tensor in an output is named, ``"[1][0]"``, and its shape."""
    for step, each in _steps(output).items():
        if isinstance(each, Tensor):
            yield f"[{step}]", tuple(each.shape)
        else:
            yield from ((f"[{step}]{part}", shape) for part, shape in parts_of(each))


def _steps(output: Any) -> dict[str, Any]:
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    entries: Sequence[Any] = output if isinstance(output, tuple | list) else ()
    return {str(i): value for i, value in enumerate(entries)}
