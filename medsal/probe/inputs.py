"""What a forward pass takes, and which of it is the image."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn


def check_input(model: nn.Module, name: str | None, others: Mapping[str, Any]) -> None:
    """Refuse an input that a model's forward pass does not have, or that is given twice.

    Raises:
        LookupError: when there is no such parameter; near names are given.
        ValueError: when it is among the other arguments.
    """
    taken = _parameters(model) if name or others else None
    if taken is None:
        return
    known, any_name = taken
    for each in (*others, *([] if name is None else [name])):
        if not any_name and each not in known:
            near = difflib.get_close_matches(each, known, n=3, cutoff=0.4) or known
            raise LookupError(
                f"the forward pass of {type(model).__name__} takes no {each!r}; near it: "
                f"{', '.join(map(repr, near))}"
            )
    image = name or next(iter(known), None)
    if image in others:
        raise ValueError(
            f"expected the image alone as {image!r}, got it among forward_kwargs too; say which "
            f"parameter takes the image: input=..."
        )


def _parameters(model: nn.Module) -> tuple[list[str], bool] | None:
    """The names that a forward pass takes, and whether it takes any; None if it does not tell."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = inspect.Parameter
    named = (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    known = [each.name for each in parameters if each.kind in named]
    return known, any(each.kind == kinds.VAR_KEYWORD for each in parameters)
