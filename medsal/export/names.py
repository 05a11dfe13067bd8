"""What files are called: the labels of targets and methods, fit for BIDS."""

import re
from collections.abc import Sequence
from typing import Any

from medsal.regions import Region
from medsal.targets import ClassScore, Difference


def label(target: Any, classes: Sequence[str] = ()) -> str:
    """A target in letters and digits: a class's name where it is known, else its number."""
    if isinstance(target, Difference):
        return f"{label(target.a, classes)}Versus{label(target.b, classes)}"
    index = target if isinstance(target, int) else _index(target)
    if isinstance(index, int):
        name = _plain(classes[index]) if index < len(classes) else ""
        return name or str(index)
    if isinstance(index, tuple):
        return "x".join(map(str, index))
    return _plain(getattr(target, "__name__", type(target).__name__)) or "target"


def description(method: Any) -> str:
    """A method's name in letters and digits; ``+`` is ``p``."""
    name = getattr(method, "name", "") or getattr(method, "__name__", "") or type(method).__name__
    return _plain(name.replace("+", "p")) or "method"


def _index(target: Any) -> Any:
    if isinstance(target, ClassScore):
        return target.index
    return target.channel if isinstance(target, Region) else None


def _plain(text: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", text)
    return "".join(words)
