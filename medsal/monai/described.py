"""A part of a bundle's config as JSON holds it, for the provenance."""

from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser

# Where the bundle lies says nothing of what it does, and may name people.
_PLACES = ("bundle_root",)


def described(parser: ConfigParser, *names: str) -> Any:
    """The first of these parts that the config has; references to other parts are filled in."""
    name = next((name for name in names if parser.get().get(name) is not None), None)
    return None if name is None else _filled(parser, parser.get()[name], (name,))


def _filled(parser: ConfigParser, value: Any, within: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _filled(parser, each, within) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(parser, each, within) for each in value]
    if isinstance(value, str):
        name = value[1:].replace("#", "::")
        if value.startswith("@") and name not in (*within, *_PLACES):
            try:
                return _filled(parser, parser[name], (*within, name))
            except (KeyError, IndexError, ValueError, TypeError):
                return value
        return value
    return value if value is None or isinstance(value, bool | int | float) else repr(value)
