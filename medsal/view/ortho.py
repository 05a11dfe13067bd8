"""The figure of a saliency map: orthogonal slices of a volume, a picture, or a signal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medsal.result import SaliencyMap
from medsal.view.look import draw
from medsal.view.scale import Scale
from medsal.view.sheet import fill_axes, fill_page

if TYPE_CHECKING:
    import matplotlib.figure


def ortho(
    result: SaliencyMap,
    *,
    point: Any = None,
    target: int = 0,
    window: str | Sequence[float | int] | None = None,
    percentile: Sequence[float | int] = (0.5, 99.5),
    threshold: float | int | None = None,
    scale: Scale | float | int | str | None = None,
    opacity: float | int = 0.85,
    cmap: str | None = None,
    radiological: bool = True,
    crosshair: bool = True,
    channel: int | None = None,
    rows_first: bool | None = None,
    classes: Sequence[str] = (),
    title: str | None = None,
    dark: bool = True,
    figure: matplotlib.figure.FigureBase | None = None,
    axes: Any = None,
) -> matplotlib.figure.Figure:
    """A saliency map over its scan: three planes of a volume, one of a 2D image, or a line.

    The planes are the scan's own planes of voxels, flipped and permuted towards RAS, never
    resampled; their lengths are true. The map keeps its raw values: the colour bar reads in them.

    Args:
        result: one sample; of a batch, plot `result[i]`.
        point: where the planes cross, RAS mm (3,); indices of the array (one per axis) where the
            map has no affine or is a picture; None = the peak, the largest magnitude of the map.
        target: which of the result's targets.
        window: grey values: None = `percentile`; (level, width); or a CT window by name: "lung",
            "mediastinum", "soft tissue", "liver", "brain", "bone".
        percentile: of the whole image, shown as black and as white.
        threshold: magnitudes below it are not drawn [raw]; None = all are.
        scale: the value at the upper end of the colours [raw]; a percentile of the magnitudes above
            0, "99.5%"; or a scale to share among figures, `medsal.view.shared_scale(result)`;
            None = the map's largest magnitude. Values beyond it are said to be clipped.
        opacity: of the strongest values, 0 to 1; it falls with the magnitude.
        cmap: matplotlib's name of the colours; None = inferno, or a diverging map about 0 where
            there are negative values.
        radiological: the patient's right is on the left of the page.
        crosshair: mark the point.
        channel: the image's channel to show; None = the first (all three of a colour picture, all
            of a signal).
        rows_first: a picture's first axis is its rows. None = true without an affine, torch's way
            (c, rows, columns); false with one, the way of MONAI's readers (c, x, y).
        classes: the names of the model's classes, for the heading.
        title: None = the file's name.
        dark: black ground; else white.
        figure: a figure or subfigure to fill; None = a new one, of fitting size.
        axes: matplotlib Axes to draw the panels in instead (as many as there are planes), with no
            text around them but the planes' names.

    Returns:
        The figure. It belongs to no pyplot state and shows itself in a notebook.

    Raises:
        ValueError: several samples, a point outside, or an option out of its range.
        LookupError: no such target, channel, window or colour map.
    """
    drawing = draw(
        result,
        point=point,
        target=target,
        scale=scale,
        crosshair=crosshair,
        title=title,
        window=window,
        percentile=percentile,
        threshold=threshold,
        opacity=opacity,
        cmap=cmap,
        radiological=radiological,
        channel=channel,
        rows_first=rows_first,
        classes=classes,
        dark=dark,
    )
    if axes is not None:
        return fill_axes(drawing, axes)
    return fill_page(drawing, figure)
