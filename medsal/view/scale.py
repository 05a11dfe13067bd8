"""Scales: the values that the colours run between, of one map or of several that share them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from medsal.result import SaliencyMap
from medsal.view.scene import Scene, scene


@dataclass(frozen=True)
class Scale:
    """The colours run from 0 (from -top, where maps are signed) to top.

    Attributes:
        top: the value at the upper end [raw].
        signed: whether the colours diverge about 0.
        words: what to say about it on the figure; empty where it is the map's own range.
    """

    top: float
    signed: bool = False
    words: str = ""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.top) and self.top > 0):
            raise ValueError(
                f"expected a positive scale (the value at its upper end), got {self.top}"
            )


Asked: TypeAlias = Scale | float | int | str | None


def scale_of(scene: Scene, asked: Asked = None) -> Scale:
    """The scale of one map: its own range, or what was asked for.

    Args:
        scene: the map.
        asked: None = the largest magnitude; a number, the value at the upper end [raw]; a
            percentile of the magnitudes above 0, "99.5%"; or a scale, used as it is.

    Raises:
        ValueError: a number that is not positive, or a text that is no percentile.
    """
    if isinstance(asked, Scale):
        return asked
    signed = is_signed(scene.low, scene.high)
    if asked is None:
        largest = max(scene.high, -scene.low)
        return Scale(largest if largest > 0 else 1.0, signed)
    if isinstance(asked, str):
        percentile = _percentile(asked)
        top = _quantile(scene, percentile)
        return Scale(top, signed, f"up to percentile {percentile:g} of the magnitudes above 0")
    return Scale(float(asked), signed)


def shared_scale(
    results: SaliencyMap | Sequence[SaliencyMap], scale: float | int | str | None = None
) -> Scale:
    """One scale for all maps of some results (of one sample each), to draw them alike.

    Maps of one method compare on one scale. Values of different methods have different units:
    give each method a scale of its own.

    Args:
        results: one result with its targets, or several.
        scale: None = the largest magnitude of all; a number [raw]; a percentile such as "99.5%",
            the largest of the maps' own.

    Raises:
        ValueError: no result, several samples in one, or a scale as `scale_of` refuses it.
    """
    results = [results] if isinstance(results, SaliencyMap) else list(results)
    if not results:
        raise ValueError("expected one result or more, got none")
    return join(
        [scene(each, k) for each in results for k in range(len(each.targets))],
        scale,
    )


def join(scenes: Iterable[Scene], asked: Asked = None, whom: str = "") -> Scale:
    """The scale that holds the scales of some maps; `whom` says on the figure who shares it."""
    if isinstance(asked, Scale):
        return asked
    scales = [scale_of(each, asked) for each in scenes]
    whom = whom or f"one scale for {len(scales)} maps"
    largest = max(scales, key=lambda scale: scale.top)
    words = ", ".join(filter(None, (largest.words, whom if len(scales) > 1 else "")))
    return Scale(largest.top, any(scale.signed for scale in scales), words)


def is_signed(low: float, high: float) -> bool:
    """Whether a map has negative values that are more than rounding."""
    return low < -1e-6 * max(abs(high), abs(low))


def _percentile(text: str) -> float:
    try:
        percentile = float(text.removesuffix("%"))
    except ValueError:
        percentile = -1.0
    if not text.endswith("%") or not 0 < percentile <= 100:
        raise ValueError(
            f'expected a scale as a number or a percentile from above 0 to 100, such as "99.5%", '
            f"got {text!r}"
        )
    return percentile


def _quantile(scene: Scene, percentile: float) -> float:
    values = scene.saliency if scene.seen is None else scene.saliency[scene.seen]
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.percentile(sizes, percentile)) if sizes.size else 1.0
