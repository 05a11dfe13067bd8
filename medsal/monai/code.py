"""What a bundle runs when it is loaded, told before it does."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import medsal

KNOWN = ("monai", "torch", "torchvision", "ignite", "medsal")
"""Packages whose functions a config may name without being told of."""


def code_of(config: Any) -> tuple[str, ...]:
    """The expressions (values that begin with ``$``) and foreign functions that a config names."""
    return tuple(_code(config))


def _code(config: Any) -> Iterator[str]:
    if isinstance(config, str) and config.startswith("$"):
        yield config
    elif isinstance(config, Mapping):
        target = config.get("_target_")
        if isinstance(target, str) and "." in target and target.split(".")[0] not in KNOWN:
            yield target
        for value in config.values():
            yield from _code(value)
    elif isinstance(config, list):
        for value in config:
            yield from _code(value)


def notice_of_code(config: Any, root: Path) -> str | None:
    """What to tell of a bundle that runs code of its own; those that come with medsal are known."""
    home = Path(medsal.__file__).parent.resolve()
    found = code_of(config)
    if not found or home in root.resolve().parents:
        return None
    longest = max(found, key=len)
    shown = longest if len(longest) <= 80 else f"{longest[:77]}..."
    return (
        f"bundle {root.resolve().name} runs code from its config ({len(found)} expressions, such "
        f"as {shown}): load only bundles that you trust"
    )


def warn_of_code(config: Any, root: Path) -> None:
    """Warn, with the notice, before the code runs."""
    notice = notice_of_code(config, root)
    if notice:
        warnings.warn(f"{notice}; trust=True says that you do", UserWarning, stacklevel=3)
