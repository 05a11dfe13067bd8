"""A batch with its maps over it: `saliency_plot`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medsal.classic.call import MODES
from medsal.view.colour import colour_window, grey_window
from medsal.view.page import shown_in_notebooks

if TYPE_CHECKING:
    import matplotlib.figure
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

Array = NDArray[Any]
GAP = 2  # pixels between the pictures of a panel
SIZE = (6.0, 4.0)  # inches of a panel


def saliency_plot(
    x: Tensor | Array,
    maps: Tensor | Array | Sequence[Tensor | Array] | None = None,
    mode: str = "3D",
    alpha: float | int = 0.5,
    scale: float | int = 1.0,
    nrow: int | None = None,
    sl: int | None = None,
    show_cb: bool = True,
    show_axis: bool = True,
    save_fig: str | Path | None = None,
    titles: Sequence[str] | None = None,
    interactive: bool = False,
    cmap: str = "viridis",
) -> matplotlib.figure.Figure:
    """A batch side by side, with maps from 0 to 1 over it, as `saliency` gives them.

    Mode "2D" draws a panel for each map, mode "3D" one more in front that shows the batch alone.
    The pictures are arrays as they are, first spatial axis first; `SaliencyMap.plot` draws
    a scan in the patient's directions, with a raw scale.

    Args:
        x: ``(n, c, h, w)`` or ``(n, c, d, h, w)``; three channels are colours, else the first one
            is drawn in grey.
        maps: ``(n, 1, *s)``, several in a list, or None for the batch alone.
        mode: "2D" or "3D".
        alpha: how opaque the maps are, 0 to 1.
        scale: of the figure's size.
        nrow: pictures in a row; None = all.
        sl: the slice of the first spatial axis, in mode "3D"; None = the middle one.
        show_cb: a colour bar at each map.
        show_axis: ticks at each panel.
        save_fig: a file to write the figure to.
        titles: one for each panel.
        interactive: in mode "3D", a slider through the slices.
        cmap: matplotlib's name of the maps' colours.

    Returns:
        The figure. It belongs to no pyplot state, unless it is interactive.

    Raises:
        ValueError: for a batch or map of another shape, a slice outside, an alpha that is none, or
            another number of titles than panels.
    """
    batch = _array(x)
    _check(batch, mode, alpha)
    given = [] if maps is None else [maps] if isinstance(maps, Tensor | np.ndarray) else list(maps)
    overlays = [_map(each, batch) for each in given]
    panels: list[Array | None] = [*overlays] if mode == "2D" and overlays else [None, *overlays]
    if titles is not None and len(titles) != len(panels):
        raise ValueError(f"expected {len(panels)} titles, one for each panel, got {len(titles)}")
    sheet = _Sheet(_shown(batch), panels, nrow or len(batch), float(alpha), cmap)
    figure = _figure(len(panels), scale, interactive and mode == "3D")
    axes = list(figure.subplots(1, len(panels), squeeze=False)[0])
    at = None if mode == "2D" else _slice(sl, batch.shape[2])
    drawn = sheet.draw(axes, at)
    for k, each in enumerate(axes):
        each.set_title("" if titles is None else titles[k])
        each.set_axis_on() if show_axis else each.set_axis_off()
        if show_cb and panels[k] is not None:
            figure.colorbar(drawn[k][-1], ax=each, fraction=0.046, pad=0.04)
    if interactive and at is not None:
        _slide(figure, sheet, drawn, at, batch.shape[2])
    if save_fig is not None:
        figure.savefig(save_fig)
    return figure


@dataclass(frozen=True, eq=False)
class _Sheet:
    """Pictures ``(n, [d,] h, w[, 3])`` from 0 to 1, each panel's map ``(n, [d,] h, w)``."""

    pictures: Array
    maps: list[Array | None]
    nrow: int
    alpha: float
    cmap: str

    def layers(self, at: int | None) -> list[list[Array]]:
        """What each panel shows, from below: the pictures, and the map where there is one."""
        every = [[self.pictures] if each is None else [self.pictures, each] for each in self.maps]
        return [[_tiled(_cut(a, at), self.nrow) for a in layers] for layers in every]

    def draw(self, axes: Sequence[Axes], at: int | None) -> list[list[AxesImage]]:
        """Draw every panel; gives the images of each, to be changed."""
        drawn = []
        for each, (below, *above) in zip(axes, self.layers(at), strict=True):
            images = [each.imshow(below, cmap="gray", vmin=0, vmax=1)]
            style: dict[str, Any] = {"cmap": self.cmap, "alpha": self.alpha, "vmin": 0, "vmax": 1}
            drawn.append(images + [each.imshow(array, **style) for array in above])
        return drawn


def _slide(
    figure: matplotlib.figure.Figure,
    sheet: _Sheet,
    drawn: list[list[AxesImage]],
    at: int,
    slices: int,
) -> None:
    """A slider below the panels that changes the slice."""
    from matplotlib.widgets import Slider

    def change(value: Any) -> None:
        for images, arrays in zip(drawn, sheet.layers(int(value)), strict=True):
            for image, array in zip(images, arrays, strict=True):
                image.set_data(array)
        figure.canvas.draw_idle()

    figure.subplots_adjust(bottom=0.18)
    place = figure.add_axes((0.25, 0.04, 0.5, 0.04))
    slider = Slider(place, "Slice", 0, slices - 1, valinit=at, valstep=1)
    slider.on_changed(change)
    # The figure keeps the slider: without a reference it would not answer.
    figure._medsal_slider = slider  # type: ignore[attr-defined]


def _figure(panels: int, scale: float, interactive: bool) -> matplotlib.figure.Figure:
    size = (SIZE[0] * panels * scale, SIZE[1] * scale)
    if interactive:
        # Widgets need a window or notebook to live in, and pyplot knows which there is.
        from matplotlib import pyplot

        return pyplot.figure(figsize=size)
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    shown_in_notebooks(figure)
    return figure


def _check(batch: Array, mode: str, alpha: float | int) -> None:
    if mode not in MODES:
        raise ValueError(f"expected a mode of {list(MODES)}, got {mode!r}")
    if batch.ndim != len(MODES[mode]):
        raise ValueError(
            f"expected a batch ({', '.join(MODES[mode])}) in mode {mode!r}, got the shape "
            f"{batch.shape}"
        )
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected an alpha from 0 to 1, got {alpha}")


def _slice(sl: int | None, slices: int) -> int:
    at = slices // 2 if sl is None else sl
    if not 0 <= at < slices:
        raise ValueError(f"expected a slice of 0 to {slices - 1}, got {at}")
    return at


def _map(values: Tensor | Array, batch: Array) -> Array:
    array = _array(values)
    expected = (len(batch), 1, *batch.shape[2:])
    if array.shape != expected:
        raise ValueError(f"expected maps of the shape {expected}, got {array.shape}")
    return array[:, 0]


def _shown(batch: Array) -> Array:
    """The batch in grey or colours, from 0 to 1."""
    if batch.shape[1] == 3:
        colours = np.moveaxis(batch, 1, -1)
        return colour_window(colours)(colours)
    grey = batch[:, 0]
    return grey_window(grey, None, (0.5, 99.5))(grey)


def _cut(array: Array, at: int | None) -> Array:
    return array if at is None else array[:, at]


def _tiled(pictures: Array, nrow: int) -> Array:
    """Pictures ``(n, h, w[, 3])`` in rows, with a gap between them."""
    n, height, width = pictures.shape[:3]
    rows, columns = math.ceil(n / nrow), min(n, nrow)
    size = (rows * (height + GAP) - GAP, columns * (width + GAP) - GAP)
    page = np.full((*size, *pictures.shape[3:]), 0.0 if pictures.ndim == 4 else np.nan)
    for k, picture in enumerate(pictures):
        top, left = k // columns * (height + GAP), k % columns * (width + GAP)
        page[top : top + height, left : left + width] = picture
    return page


def _array(values: Tensor | Array) -> Array:
    array = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values
    return np.asarray(array, dtype=np.float32)
