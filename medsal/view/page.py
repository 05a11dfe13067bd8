"""A page: boxes in inches from the top left corner, text that is measured before it is set."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import matplotlib.font_manager
    import matplotlib.text

FAMILY = "DejaVu Sans"  # comes with matplotlib; has the superscripts
LEADING = 1.38  # line height / font size
ASCENT = 1.0  # from the top of a line to its baseline / font size


@dataclass(frozen=True)
class Ink:
    """The colours of a page."""

    ground: str
    text: str
    muted: str
    line: str


DARK = Ink("#000000", "#f1f3f4", "#a3a9b0", "#3c4043")
LIGHT = Ink("#ffffff", "#17191c", "#5a6068", "#c4c8cd")


@dataclass(frozen=True)
class Box:
    """A rectangle [inch]; top is measured downwards."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Page:
    """A figure, its size and its ink.

    A figure that is too small for the text counts as a larger one, shown at a smaller `zoom`.
    """

    figure: matplotlib.figure.FigureBase
    width: float
    height: float
    ink: Ink
    zoom: float = 1.0

    def axes(self, box: Box) -> matplotlib.axes.Axes:
        bottom = self.height - box.top - box.height
        return self.figure.add_axes(
            (
                box.left / self.width,
                bottom / self.height,
                box.width / self.width,
                box.height / self.height,
            )
        )

    def text(
        self, left: float, top: float, words: str, size: float, **style: Any
    ) -> matplotlib.text.Text:
        """A line whose upper left corner (or right, by `ha`) is at (left, top)."""
        style = {"color": self.ink.text, "va": "baseline", **style}
        base = 1 - (top + ASCENT * size / 72) / self.height
        style = {**TYPE, **style, "fontsize": size * self.zoom}
        return self.figure.text(left / self.width, base, words, **style)


TYPE: dict[str, Any] = {"family": FAMILY, "parse_math": False, "usetex": False}


def new_page(width: float, height: float, dark: bool) -> Page:
    """A page of its own; the figure shows itself in a notebook without pyplot."""
    from matplotlib.figure import Figure

    ink = DARK if dark else LIGHT
    figure = Figure(figsize=(width, height), dpi=150, facecolor=ink.ground)
    figure.set_layout_engine("none")
    shown_in_notebooks(figure)
    return Page(figure, width, height, ink)


def old_page(figure: matplotlib.figure.FigureBase, dark: bool, least: tuple[float, float]) -> Page:
    """The caller's figure or subfigure as a page of at least that width and height [inch]."""
    ink = DARK if dark else LIGHT
    figure.set_facecolor(ink.ground)
    sub: Any = figure  # a Figure or a SubFigure: both have a size
    if sub.figure is sub:  # all is placed here; an engine would warn that it finds nothing to do
        sub.set_layout_engine("none")
    width, height = size_of(figure)
    zoom = min(1.0, width / least[0], height / least[1])
    return Page(figure, width / zoom, height / zoom, ink, zoom)


def size_of(figure: Any) -> tuple[float, float]:
    """Width and height of a figure or subfigure [inch]."""
    return figure.bbox.width / figure.dpi, figure.bbox.height / figure.dpi


def shown_in_notebooks(figure: Any) -> None:
    """IPython shows plain Figures only once pyplot has been imported: this one shows itself."""
    setattr(figure, "_repr_png_", functools.partial(_png, figure))  # noqa: B010


def _png(figure: Any) -> bytes:
    from io import BytesIO

    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def measure(words: str, size: float, bold: bool = False) -> float:
    """The width of a line of text [inch]."""
    return sum(_advance(c, bold) for c in words) * size / 72


@functools.lru_cache(maxsize=1024)
def _advance(character: str, bold: bool) -> float:
    """The width of a character, as a share of the font size."""
    from matplotlib.textpath import TextPath

    with_it, without = (
        float(TextPath((0, 0), text, size=100, prop=_font(bold)).get_extents().width)
        for text in (f"|{character}|", "||")
    )
    return (with_it - without) / 100


def line_height(size: float) -> float:
    """The height of a line of text [inch]."""
    return size * LEADING / 72


def legible(words: str) -> str:
    """Text without line breaks, and with "?" for what the font cannot show."""
    known = _characters()
    return "".join(c if ord(c) in known else "?" for c in " ".join(words.split()))


def wrap(words: str, width: float, size: float, lines: int = 99) -> list[str]:
    """Text in lines no wider than width [inch]; shortened with an ellipsis after `lines` lines."""
    rows: list[str] = []
    row = ""
    for word in legible(words).split(" "):
        for piece in _pieces(word, width, size):
            longer = f"{row} {piece}" if row and piece == word else row + piece if row else piece
            if row and measure(longer, size) > width:
                rows.append(row)
                row = piece
            else:
                row = longer
    rows += [row] if row else []
    if len(rows) > lines:
        rows = [*rows[: lines - 1], shorten(" ".join(rows[lines - 1 :]), width, size, tail=False)]
    return rows


def shorten(words: str, width: float, size: float, bold: bool = False, tail: bool = True) -> str:
    """Text no wider than width [inch]: an ellipsis stands for its middle, or for its end."""
    words = legible(words)
    if measure(words, size, bold) <= width:
        return words
    keep = len(words)
    while keep > 2:
        keep -= max(1, keep // 20)
        short = words[: -(-keep // 2)] + "…" + words[-(keep // 2) :] if tail else words[:keep] + "…"
        if measure(short, size, bold) <= width:
            return short
    return "…"


def _pieces(word: str, width: float, size: float) -> list[str]:
    """A word, broken where it alone is wider than a line."""
    if measure(word, size) <= width:
        return [word]
    count = max(8, int(len(word) * width / measure(word, size) * 0.9))
    return [word[i : i + count] for i in range(0, len(word), count)]


def _font(bold: bool) -> matplotlib.font_manager.FontProperties:
    from matplotlib.font_manager import FontProperties

    return FontProperties(family=FAMILY, weight="bold" if bold else "normal")


@functools.lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(_font(False))).get_charmap())
