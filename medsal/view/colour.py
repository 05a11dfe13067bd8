"""Grey windows of the scan, and the colours and transparency of a saliency map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsal.view.scale import Scale
from medsal.view.words import number

if TYPE_CHECKING:
    import matplotlib.colors

Array = NDArray[Any]
WINDOWS = {  # CT, Hounsfield units: (level, width)
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "soft tissue": (50.0, 400.0),
    "liver": (60.0, 160.0),
    "brain": (40.0, 80.0),
    "bone": (400.0, 1800.0),
}
SAMPLE = 200_000  # voxels that percentiles are taken from


@dataclass(frozen=True)
class Window:
    """The values shown as black and as white, and how to say so."""

    low: float
    high: float
    words: str

    def __call__(self, values: Array) -> Array:
        """Values scaled to 0 ... 1, for colour pictures."""
        return np.clip((values.astype(np.float64) - self.low) / (self.high - self.low), 0.0, 1.0)


def grey_window(
    image: Array,
    window: str | Sequence[float | int] | None,
    percentile: Sequence[float | int],
) -> Window:
    """The window of a grey image of any shape: percentiles of it, or a CT window.

    Raises:
        ValueError: the window is malformed, or no value of the image falls into it.
        LookupError: no window has that name.
    """
    sample = _sample(image)
    if window is not None:
        return _ct_window(sample, window)
    first, last = (float(value) for value in percentile)
    if not 0 <= first < last <= 100:
        raise ValueError(f"expected percentiles 0 <= low < high <= 100, got {percentile}")
    low, high = (float(x) for x in np.percentile(sample, percentile)) if sample.size else (0.0, 1.0)
    if low == high:  # percentiles of a nearly empty image coincide
        low, high = float(sample.min(initial=low)), float(sample.max(initial=high))
    words = f"grey window {number(low)} to {number(high)} (percentiles {first:g} and {last:g})"
    return Window(low, high if high > low else low + 1.0, words)


def colour_window(image: Array) -> Window:
    """The window of a colour picture: 0 to 255, 0 to 1, or its own range."""
    sample = _sample(image)
    low, high = (float(sample.min(initial=0.0)), float(sample.max(initial=0.0)))
    if low >= 0 and high <= 255:
        top = 1.0 if high <= 1 else 255.0
        return Window(0.0, top, f"picture shown from 0 to {top:g}")
    low, high = float(np.nanmin(image)), float(np.nanmax(image))
    words = f"picture rescaled from {number(low)} to {number(high)}"
    return Window(low, high if high > low else low + 1.0, words)


def signal_window(signal: Array) -> Window:
    """The range of a signal (x, 1, 1, c)."""
    low, high = float(np.nanmin(signal)), float(np.nanmax(signal))
    words = f"signal from {number(low)} to {number(high)}"
    if signal.shape[-1] > 1:
        words += ", each channel drawn over its own range"
    return Window(low, high if high > low else low + 1.0, words)


@dataclass(frozen=True)
class Shade:
    """Colours of a map on a scale: from 0 (or from -top, where it is signed) to top.

    Attributes:
        low: smallest raw value of the map.
        high: largest raw value of the map.
        scale: the values that the colours run between.
        threshold: magnitudes below it are not drawn.
        opacity: of the strongest values, 0 to 1.
        name: matplotlib's name of the colours.
    """

    low: float
    high: float
    scale: Scale
    threshold: float
    opacity: float
    name: str

    @property
    def top(self) -> float:
        return self.scale.top

    @property
    def signed(self) -> bool:
        return self.scale.signed

    @property
    def empty(self) -> bool:
        return self.high <= 0

    @property
    def bottom(self) -> float:
        return -self.top if self.signed else 0.0

    @property
    def clipped(self) -> bool:
        """Values lie beyond the end of the scale."""
        return max(self.high, -self.low if self.signed else 0.0) > self.top * (1 + 1e-6)

    def alpha(self, values: Array) -> Array:
        """Opacity of each value: grows with its magnitude, 0 below the threshold."""
        size = np.clip(np.abs(np.nan_to_num(values.astype(np.float64))), 0.0, self.top) / self.top
        return self.opacity * np.where(size * self.top < self.threshold, 0.0, size**0.6)

    def colours(self) -> matplotlib.colors.Colormap:
        import matplotlib

        return matplotlib.colormaps[self.name]

    def norm(self) -> matplotlib.colors.Normalize:
        from matplotlib.colors import Normalize

        return Normalize(self.bottom, self.top)


def shade(
    low: float,
    high: float,
    scale: Scale,
    *,
    threshold: float | int | None,
    opacity: float | int,
    cmap: str | None,
) -> Shade:
    """The colours for a map with raw values from low to high.

    Raises:
        ValueError: threshold or opacity is out of its range.
        LookupError: matplotlib has no such colour map.
    """
    cut = 0.0 if threshold is None else float(threshold)
    if not 0 <= cut < scale.top:
        raise ValueError(
            f"expected a threshold from 0 to below {scale.top:g} (raw), got {threshold}"
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"expected an opacity from 0 to 1, got {opacity}")
    return Shade(low, high, scale, cut, float(opacity), _colours(cmap, scale.signed))


def _colours(cmap: str | None, signed: bool) -> str:
    import matplotlib

    names = list(matplotlib.colormaps)
    if cmap is None:  # berlin, dark in the middle, came with matplotlib 3.10
        return ("berlin" if "berlin" in names else "coolwarm") if signed else "inferno"
    if cmap not in names:
        near = ", ".join(map(repr, get_close_matches(cmap, names))) or "'inferno', 'viridis'"
        raise LookupError(f"matplotlib has no colour map {cmap!r}; near it: {near}")
    return cmap


def _ct_window(sample: Array, window: str | Sequence[float | int]) -> Window:
    name = ""
    if isinstance(window, str):
        if window not in WINDOWS:
            near = get_close_matches(window, WINDOWS) or list(WINDOWS)
            raise LookupError(f"no window {window!r}; known: {', '.join(map(repr, near))}")
        name, window = f"{window} ", WINDOWS[window]
    if len(window) != 2:
        raise ValueError(f"expected a window (level, width), got {window}")
    level, width = (float(value) for value in window)
    if not (np.isfinite(level) and np.isfinite(width) and width > 0):
        raise ValueError(f"expected a window (level, width) with width > 0, got {window}")
    low, high = level - width / 2, level + width / 2
    if sample.size and (sample.max() <= low or sample.min() >= high):
        raise ValueError(
            f"no value falls into the {name}window {low:g} to {high:g}: the image runs from "
            f"{sample.min():g} to {sample.max():g}; a network's input is often rescaled: plot "
            "result.home(), or leave window=None"
        )
    return Window(low, high, f"{name}window: level {number(level)}, width {number(width)}")


def _sample(image: Array) -> Array:
    """Finite values of a coarse, evenly spaced subset."""
    step = max(1, round((image.size / SAMPLE) ** (1 / max(image.ndim, 1))))
    steps = (step if n > step else 1 for n in image.shape)
    values = image[tuple(slice(None, None, s) for s in steps)].astype(np.float64).ravel()
    return values[np.isfinite(values)]
