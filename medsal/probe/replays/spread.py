"""The arguments of a call in one row, lists among them opened, and back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Spread = tuple[tuple[str | None, int], ...]
"""For each argument its name (None by position) and how many entries its list has (-1: no list)."""


def spread(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], Spread]:
    """The arguments in one row, and how they lay."""
    leaves: list[Any] = []
    lay: list[tuple[str | None, int]] = []
    for name, each in (*((None, each) for each in args), *kwargs.items()):
        if isinstance(each, list | tuple):
            leaves.extend(each)
            lay.append((name, len(each)))
        else:
            leaves.append(each)
            lay.append((name, -1))
    return leaves, tuple(lay)


def joined(leaves: Iterable[Any], lay: Spread) -> tuple[list[Any], dict[str, Any]]:
    """The arguments again."""
    row = iter(leaves)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, count in lay:
        each = next(row) if count < 0 else [next(row) for _ in range(count)]
        if name is None:
            args.append(each)
        else:
            kwargs[name] = each
    return args, kwargs
