"""What a bundle's metadata say of its network: channels, sizes, names of classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metadata:
    """What of a bundle's metadata a map is made with.

    Attributes:
        version: of the bundle; None if they do not say.
        channels: how many channels the network takes; None if they do not say.
        size: the spatial size of the network's input; empty where none is stated in numbers.
        classes: the names of the output's channels, in their order; empty where there are none.
    """

    version: str | None
    channels: int | None
    size: tuple[int, ...]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "Metadata":
        """From the content of ``metadata.json``: its first input and its first output count."""
        formats = metadata.get("network_data_format") or {}
        taken, given = formats.get("inputs") or {}, formats.get("outputs") or {}
        image: Mapping[str, Any] = next(iter(taken.values()), {})
        prediction: Mapping[str, Any] = next(iter(given.values()), {})
        return cls(
            version=metadata.get("version"),
            channels=image.get("num_channels"),
            size=_size(image.get("spatial_shape")),
            classes=_class_names(prediction.get("channel_def")),
        )


def _class_names(channels: Any) -> tuple[str, ...]:
    if not isinstance(channels, Mapping) or not all(str(key).isdecimal() for key in channels):
        return ()
    return tuple(str(channels[key]) for key in sorted(channels, key=int))


def _size(shape: Any) -> tuple[int, ...]:
    """Sizes in numbers; a metadata file may also say ``"*"`` or a formula."""
    sizes = shape if isinstance(shape, list) else []
    return tuple(sizes) if all(isinstance(size, int) for size in sizes) else ()
