"""A figure with a slider, for matplotlib windows and live notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from medsal.result import SaliencyMap
from medsal.view.film import Film, open_film
from medsal.view.look import Look, choose_plane, draw
from medsal.view.scale import Scale

if TYPE_CHECKING:
    import matplotlib.figure

LEVELS = 21  # of the opacity of a map over a picture
SIZE = (9.0, 6.6)  # inches


def slider(
    result: SaliencyMap,
    *,
    plane: str | int | None = None,
    target: int = 0,
    scale: Scale | float | int | str | None = None,
    title: str | None = None,
    figure: matplotlib.figure.Figure | None = None,
    **look: Unpack[Look],
) -> matplotlib.figure.Figure:
    """A map over its scan with a slider through the slices; over a 2D image, for the opacity.

    The slider moves where matplotlib is interactive: in a window after ``plt.show()``, or in a
    notebook with ipympl. Elsewhere it is a picture; ``result.view()`` moves in any notebook.

    Args:
        result: one sample.
        plane: the plane that moves, as in `medsal.view.montage`.
        target: which of the result's targets.
        scale: as in `medsal.view.ortho`.
        title: None = the file's name.
        figure: a figure to fill; None = a new one of pyplot, which keeps it in a window.
        **look: options that all figures have; see `medsal.view.ortho`.

    Returns:
        The figure; its ``slider`` is the widget.

    Raises:
        ValueError: a signal, or an option out of its range.
        LookupError: no such plane, target, channel, window or colour map.
    """
    drawing = draw(result, target=target, scale=scale, title=title, crosshair=False, **look)
    grid = drawing.scene.grid
    along = choose_plane(grid, plane, drawing.radiological)
    steps: list[float] = [k / (LEVELS - 1) for k in range(LEVELS)]
    first = LEVELS - 1
    if grid.axes == 3:
        steps = [float(k) for k in range(grid.shape[along.normal])]
        first = drawing.focus.voxel[along.normal]
    if figure is None:
        from matplotlib import pyplot

        figure = pyplot.figure(figsize=SIZE)
    film = open_film(drawing, along, steps, figure)
    widget = _widget(film, first)
    widget.on_changed(lambda k: film.show(int(k)))
    film.show(first)
    setattr(figure, "slider", widget)  # noqa: B010  # it lives as long as the figure
    return figure


def _widget(film: Film, first: int) -> Any:
    """The slider: a handle alone, on the strip under the large panel."""
    from matplotlib.widgets import Slider

    axes = film.page.axes(film.strip)
    widget = Slider(axes, "", 0, len(film.steps) - 1, valinit=first, valstep=1)
    for part in (widget.valtext, widget.poly):
        part.set_visible(False)
    if film.drawing.scene.grid.axes == 3:  # the strip itself is the track
        widget.track.set_visible(False)
    return widget
