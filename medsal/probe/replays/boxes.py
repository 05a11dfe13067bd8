"""Boxes of a grid, one per sample and all of one size: where a change reaches.

Along an axis a windowed step (convolution, pooling) makes cell ``o`` of the cells from ``o stride -
padding`` on, ``width`` of them. So a change of some cells reaches those cells alone whose windows
meet it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from torch import Tensor

Starts = tuple[int, ...]
Span = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """For each sample where its box starts along each axis, and the size of all of them.

    A box may hang over the grid where a step pads it.

    Attributes:
        spans: for each sample from where to where it differs along each axis: boxes of one size may
            be larger than that.
    """

    starts: tuple[Starts, ...]
    size: tuple[int, ...]
    spans: Sequence[Sequence[Span]] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.spans:
            spans = [[(a, a + n) for a, n in zip(s, self.size, strict=True)] for s in self.starts]
            object.__setattr__(self, "spans", spans)

    def share(self, grid: Sequence[int]) -> float:
        """How much of a grid it covers."""
        return prod(self.size) / max(1, prod(grid))

    def least_share(self, grid: Sequence[int]) -> float:
        """How much it would cover if, along each axis, the sample counted that differs least."""
        along = zip(*self.spans, strict=True)
        least = (min(high - low for low, high in spans) for spans in along)
        return float(prod(least)) / max(1, prod(grid))


@dataclass(frozen=True)
class Reach:
    """What a windowed step looks at along one axis: cells from the first to the last, included."""

    width: int
    stride: int
    padding: int


def through(box: Box, reach: Sequence[Reach], grid: Sequence[int]) -> Box:
    """The box of the step's output, a ``grid``, that the change reaches."""
    spans = [
        [
            (
                max(0, -(-(low + each.padding - each.width + 1) // each.stride)),
                min(cells, (high - 1 + each.padding) // each.stride + 1),
            )
            for (low, high), each, cells in zip(of_sample, reach, grid, strict=True)
        ]
        for of_sample in box.spans
    ]
    return _of_one_size(spans, grid)


def behind(box: Box, reach: Sequence[Reach]) -> Box:
    """The cells of the step's input that make a box of its output; they may hang over."""
    starts = tuple(
        tuple(start * r.stride - r.padding for start, r in zip(each, reach, strict=True))
        for each in box.starts
    )
    size = ((n - 1) * r.stride + r.width for n, r in zip(box.size, reach, strict=True))
    return Box(starts, tuple(size))


def around(boxes: Sequence[Box], grid: Sequence[int]) -> Box:
    """The box around some boxes."""
    spans = [
        [
            (min(low for low, _ in axis), max(high for _, high in axis))
            for axis in zip(*of_sample, strict=True)
        ]
        for of_sample in zip(*(each.spans for each in boxes), strict=True)
    ]
    return _of_one_size(spans, grid)


def _of_one_size(spans: Sequence[Sequence[Span]], grid: Sequence[int]) -> Box:
    # An empty span (a stride steps over the change) gets a cell: more than needed is right.
    spans = [
        [_filled(*span, cells) for span, cells in zip(each, grid, strict=True)] for each in spans
    ]
    size = tuple(max(high - low for low, high in axis) for axis in zip(*spans, strict=True))
    starts = tuple(
        tuple(min(low, cells - n) for (low, _), cells, n in zip(each, grid, size, strict=True))
        for each in spans
    )
    return Box(starts, size, spans)


def _filled(low: int, high: int, cells: int) -> Span:
    low = min(low, cells - 1)
    return low, max(high, low + 1)


def cut(whole: Tensor, box: Box, beyond: float) -> Tensor:
    """The boxes' content ``(samples, c, *size)`` of a tensor whose samples repeat.

    Args:
        whole: ``(n, c, *f)``.
        box: for a multiple of n samples.
        beyond: what stands where it hangs over.
    """
    shape = (len(box.starts), whole.shape[1], *box.size)
    over = any(
        start < 0 or start + size > cells
        for starts in box.starts
        for start, size, cells in zip(starts, box.size, whole.shape[2:], strict=True)
    )
    found = whole.new_full(shape, beyond) if over else whole.new_empty(shape)
    return paste_clean(found, box, whole)


def paste_clean(found: Tensor, box: Box, whole: Tensor) -> Tensor:
    """Write a tensor whose samples repeat into the content of a box, where it overlaps."""
    first = (0,) * len(box.size)
    for i in range(len(box.starts)):
        _put(found[i], box.starts[i], whole[i % len(whole)], first)
    return found


def paste(found: Tensor, box: Box, patch: Tensor, at: Box) -> Tensor:
    """Write the patches that lie at one box into the content of another, where they overlap."""
    for i in range(len(box.starts)):
        _put(found[i], box.starts[i], patch[i], at.starts[i])
    return found


def _put(target: Tensor, start: Starts, source: Tensor, source_start: Starts) -> None:
    """Copy where two tensors ``(c, *)`` that lie on one grid overlap."""
    into, of = [slice(None)], [slice(None)]
    for a, n, b, m in zip(start, target.shape[1:], source_start, source.shape[1:], strict=True):
        low, high = max(a, b), min(a + n, b + m)
        if low >= high:
            return
        into.append(slice(low - a, high - a))
        of.append(slice(low - b, high - b))
    target[tuple(into)] = source[tuple(of)]


def repeated(whole: Tensor, samples: int) -> Tensor:
    """A tensor repeated along the sample axis."""
    return whole.repeat(samples // len(whole), *(1 for _ in whole.shape[1:]))


def representative(box: Box) -> Box:
    """A few boxes that start, along each axis, wherever one of these does."""
    along = [sorted(set(starts)) for starts in zip(*box.starts, strict=True)]
    count = max(map(len, along))
    starts = (tuple(axis[i % len(axis)] for axis in along) for i in range(count))
    return Box(tuple(starts), box.size)


def inside(box: Box, outer: Box) -> bool:
    """Whether each box lies within the other's."""
    return all(
        low <= start and start + size <= low + room
        for starts, lows in zip(box.starts, outer.starts, strict=True)
        for start, size, low, room in zip(starts, box.size, lows, outer.size, strict=True)
    )


def moved(box: Box, by: Sequence[int]) -> Box:
    """The box so many cells further on."""
    starts = [tuple(a + n for a, n in zip(each, by, strict=True)) for each in box.starts]
    spans = [
        [(low + n, high + n) for (low, high), n in zip(each, by, strict=True)] for each in box.spans
    ]
    return Box(tuple(starts), box.size, spans)


def within(box: Box, outer: Box) -> Box:
    """The box as the outer one counts its cells."""
    starts = (
        tuple(start - low for start, low in zip(starts, lows, strict=True))
        for starts, lows in zip(box.starts, outer.starts, strict=True)
    )
    return Box(tuple(starts), box.size)


def gathered(whole: Tensor, patch: Tensor, box: Box) -> Tensor:
    """The whole of each sample, its patch in it."""
    found = repeated(whole, len(patch)).to(patch.dtype)
    everything = Box(((0,) * len(box.size),) * len(patch), tuple(whole.shape[2:]))
    return paste(found, everything, patch, box)
