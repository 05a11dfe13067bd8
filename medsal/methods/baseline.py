"""The image that stands for "nothing seen": what a path starts from, what an occlusion shows."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from medsal.methods.many import wide
from medsal.ops import smooth, spatial_mean
from medsal.types import Image

Baseline = int | float | str | Tensor
"""A number; a tensor that broadcasts against the image; ``"mean"``, of each channel; ``"blur"``,
the image blurred by a tenth of its size (Sturmfels et al., 2020, doi:10.23915/distill.00022)."""

_BLUR = 0.1


def check_baseline(name: str, baseline: Any) -> None:
    """Refuse what is no baseline.

    Raises:
        ValueError: when it is neither a number, a tensor, ``"mean"`` nor ``"blur"``.
    """
    number = isinstance(baseline, int | float) and not isinstance(baseline, bool)
    if number or isinstance(baseline, Tensor):
        return
    if not isinstance(baseline, str) or baseline not in ("mean", "blur"):
        raise ValueError(
            f"expected {name} as a number, a tensor, 'mean' or 'blur', got {baseline!r}"
        )


def baseline_of(image: Image, baseline: Baseline) -> Image:
    """The baseline for each sample, of the image's shape.

    Raises:
        ValueError: when a tensor does not broadcast against the image.
    """
    if isinstance(baseline, Tensor):
        like = baseline.as_subclass(Tensor).to(image)
        try:
            return like.expand_as(image)
        except RuntimeError:
            raise ValueError(
                f"expected a baseline that broadcasts against the image {tuple(image.shape)}, got "
                f"{tuple(baseline.shape)}"
            ) from None
    if baseline == "mean":
        return spatial_mean(wide(image)).to(image.dtype).expand_as(image)
    if baseline == "blur":
        return smooth(wide(image), [_BLUR * size for size in image.shape[2:]]).to(image.dtype)
    return torch.full_like(image, float(baseline))


class HoldsTensors:
    """Equality and a readable repr for frozen dataclasses that may hold a tensor."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            _same(a, getattr(other, name)) for name, a in _options(self).items()
        )

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        options = (f"{name}={_shown(value)}" for name, value in _options(self).items())
        return f"{type(self).__name__}({', '.join(options)})"


def _options(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return a is b or (isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b))
    return bool(a == b)


def _shown(value: Any) -> str:
    return f"<tensor {tuple(value.shape)}>" if isinstance(value, Tensor) else repr(value)
