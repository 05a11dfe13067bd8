"""Heads whose channels do not compete: a sigmoid for each, as for nested parts of a tumour."""

from collections.abc import Iterator, Mapping
from typing import Any

from medsal.targets import Difference, Positive

ACTIVATIONS = ("Activations", "Activationsd", "ActivationsD", "ActivationsDict")


def for_head(target: Any, multilabel: bool) -> Any:
    """What a user's target means for a head: numbers and None, where channels do not compete."""
    if multilabel and isinstance(target, list | tuple):
        return [for_head(each, multilabel) for each in target]
    if multilabel and isinstance(target, Difference):
        return Difference(for_head(target.a, multilabel), for_head(target.b, multilabel))
    return target if callable(target) or not multilabel else Positive(target)


def is_multilabel(config: Any) -> bool:
    """Whether the transforms of a bundle's config put a sigmoid on each channel."""
    found = list(_activations(config))
    return any(_says(each, "sigmoid") for each in found) and not any(
        _says(each, "softmax") for each in found
    )


def _activations(config: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        if str(config.get("_target_", "")).split(".")[-1] in ACTIVATIONS:
            yield config
        config = list(config.values())
    for value in config if isinstance(config, list) else ():
        yield from _activations(value)


def _says(config: Mapping[str, Any], option: str) -> bool:
    value = config.get(option)
    return value is True or (isinstance(value, list) and True in value)
