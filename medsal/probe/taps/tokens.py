"""Tokens on their grid: which token of a transformer's layer is which cell of the image.

Nothing is guessed. Two passes, of the image and of a changed one, run as far as the layer. On the
way they show a grid of features and the tokens that were read off it: a token belongs to the cell
whose difference between the images it has. A class token has none, and is cut off.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.taps.layers import watching
from medsal.probe.taps.layout import Tokens

Ask = Callable[[Tensor], Any]
# How many tokens may stand beside those of the cells: for the class, distillation, registers.
_EXTRA = 16


class _EndedError(BaseException):
    """The layer has been met: what comes after it is not asked for."""


@dataclass
class _Look:
    """What a pass shows on its way to a layer.

    Attributes:
        grids: tensors with the image's number of axes, by their shapes.
        rows: tensors with three axes, by their shapes: the first one and the latest.
        unfolded: by how many, the grid and the order of the first rows, where a module without
            weights read them off the image, such as its patches.
        block: the name of the block of windows that the layer belongs to; empty without.
        windows: the first tensors with three axes in that block, by their shapes.
    """

    grids: dict[tuple[int, ...], Tensor] = field(default_factory=dict)
    rows: dict[tuple[int, ...], list[Tensor]] = field(default_factory=dict)
    unfolded: dict[int, tuple[tuple[int, ...], Tensor]] = field(default_factory=dict)
    block: str = ""
    windows: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def note(
        self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any, ndim: int
    ) -> None:
        tensors = [each for each in (*inputs, output) if isinstance(each, Tensor)]
        if not self.rows and len(tensors) == 2 and tensors[0].ndim == ndim > 3 == tensors[1].ndim:
            self._note_unfolded(module, *tensors)
        for each in tensors:
            shape = tuple(each.shape)
            if each.ndim == 3 and each.is_floating_point():
                kept = each.detach().clone()
                self.rows[shape] = [self.rows.get(shape, [kept])[0], kept]
                if self.block and name.startswith(f"{self.block}."):
                    self.windows.setdefault(shape, kept)
            if each.ndim == ndim and each.is_floating_point() and not self._read(shape):
                self.grids[shape] = each.detach().clone()

    def _read(self, shape: tuple[int, ...]) -> bool:
        """Whether a grid of this shape has been read as rows: later ones have no say."""
        read = (shape[0], prod(shape[2:]), shape[1]), (shape[0], prod(shape[1:-1]), shape[-1])
        return len(shape) > 3 and any(each in self.rows for each in read)

    def _note_unfolded(self, module: nn.Module, grid: Tensor, rows: Tensor) -> None:
        if any(True for _ in module.parameters()):
            return
        where = []
        for axis in range(2, grid.ndim):
            place = torch.arange(grid.shape[axis], dtype=torch.float64, device=grid.device)
            ramp = place.reshape(-1, *(1 for _ in grid.shape[axis + 1 :])).expand(grid.shape)
            where.append(module.forward(ramp[:1])[0].mean(1))
        found = _ordered(torch.stack(where, 1))
        if found:
            self.unfolded[rows.shape[1]] = found


def _ordered(where: Tensor) -> tuple[tuple[int, ...], Tensor] | None:
    """The grid and the order of rows with these places ``(rows, axes)``; None if they fill none."""
    steps = [torch.unique(each, return_inverse=True) for each in where.unbind(1)]
    grid = tuple(len(places) for places, _ in steps)
    cell = torch.zeros(len(where), dtype=torch.long, device=where.device)
    for cells, (_, inverse) in zip(grid, steps, strict=True):
        cell = cell * cells + inverse
    return (grid, cell.argsort()) if len(where) == prod(grid) == len(torch.unique(cell)) else None


_known: "weakref.WeakKeyDictionary[nn.Module, dict[Any, Tokens]]" = weakref.WeakKeyDictionary()


def tokens_of(
    model: nn.Module, name: str, shape: Sequence[int], image: Tensor, ask: Ask, key: Any
) -> Tokens:
    """Where the cells lie among the tokens that a layer puts out; found once per model.

    Args:
        model: the model.
        name: the layer's dotted name, without a part.
        shape: of the layer's output.
        image: ``(n, c, *s)``.
        ask: runs the model.
        key: what the answer depends on, besides the layer.

    Raises:
        ValueError: when they can't be placed.
    """
    known = _known.setdefault(model, {})
    place = (key, name, tuple(shape))
    if place not in known:
        known[place] = _found(model, name, tuple(shape), image, ask)
    return known[place]


def _found(model: nn.Module, name: str, shape: tuple[int, ...], image: Tensor, ask: Ask) -> Tokens:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(image.shape, generator=generator).to(image)
    block, *windows = _windows_of(model, name) or ("",)
    with torch.no_grad():
        first, second = (_look(model, name, block, each, ask) for each in (image, image + noise))
    if windows:
        found = _match_windows(first, second, shape, len(image), windows)
    else:
        found = _match(first, second, shape, len(image))
    if found is None:
        raise ValueError(
            f"layer {name!r} puts out tokens {shape} that can't be put back on a grid: no grid of "
            f"features was seen whose cells they are, row by row or in windows; choose another "
            f"layer: medsal.layers(model, image)"
        )
    return found


def _look(model: nn.Module, name: str, block: str, image: Tensor, ask: Ask) -> _Look:
    look, meant = _Look(block=block), dict(model.named_modules(remove_duplicate=False))[name]

    def watch(key: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        look.note(key, module, inputs, output, image.ndim)
        if module is meant:
            raise _EndedError

    look.grids[tuple(image.shape)] = image.clone()
    try:
        with watching([(k, m) for k, m in model.named_modules() if k], watch):
            ask(image.clone())
    except _EndedError:
        pass
    return look


def _match(first: _Look, second: _Look, shape: tuple[int, ...], samples: int) -> Tokens | None:
    """The grid and order that explain how the tokens differ between the two images."""
    differ = {
        key: second.rows[key][0] - kept[0] for key, kept in first.rows.items() if key in second.rows
    }
    for key, rows in differ.items():
        for grid, cells in _grids(first, second) if key[:2] == shape[:2] else ():
            for order in _orders(grid, key[1]) if cells.shape[::2] == key[::2] else ():
                if _explains(rows, cells, order):
                    return Tokens(grid, order)
    if shape[1] in first.unfolded:
        return Tokens(*first.unfolded[shape[1]])
    return _behind_others(first, second, differ, shape, samples)


def _match_windows(
    first: _Look, second: _Look, shape: tuple[int, ...], samples: int, windows: Sequence[Any]
) -> Tokens | None:
    """The same of windows ``(n windows, tokens, k)``, whose size and shift are told."""
    for key, kept in first.windows.items():
        if key[:2] != shape[:2] or key not in second.windows:
            continue
        rows = (second.windows[key] - kept).reshape(samples, -1, key[-1])
        for grid, cells in _grids(first, second):
            if cells.shape[::2] != rows.shape[::2] or len(grid) != len(windows[0]):
                continue
            order = _windowed(grid, *windows)
            if _explains(rows, cells, order):
                return Tokens(grid, order)
    return None


def _behind_others(
    first: _Look, second: _Look, differ: dict[Any, Tensor], shape: tuple[int, ...], samples: int
) -> Tokens | None:
    """The place of tokens that are fewer ones, placed before, and some more."""
    for key, rows in differ.items():
        for fewer in differ:
            count, more = fewer[1], key[1] - fewer[1]
            if key[:2] != shape[:2] or fewer[::2] != key[::2] or not 0 < more <= _EXTRA:
                continue
            below = _match(first, second, fewer, samples)
            latest = second.rows[fewer][1] - first.rows[fewer][1]
            for start in range(more + 1) if below else ():
                if below and _explains(rows, latest, torch.arange(start, start + count)):
                    return Tokens(below.grid, below.order + start)
    return None


def _grids(first: _Look, second: _Look) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Each grid, read with channels on either axis, and how its cells differ ``(n, cells, k)``."""
    for shape, kept in first.grids.items():
        for features in (kept, kept.movedim(-1, 1)) if shape in second.grids else ():
            other = second.grids[shape]
            other = other if features is kept else other.movedim(-1, 1)
            yield tuple(features.shape[2:]), (other - features).flatten(2).transpose(1, 2)


def _orders(grid: tuple[int, ...], count: int) -> Iterator[Tensor]:
    """Where the cells may be among so many tokens: axes in any order, others before or after."""
    numbers = torch.arange(prod(grid)).reshape(grid)
    for axes in permutations(range(len(grid))) if 0 <= count - prod(grid) <= _EXTRA else ():
        order = numbers.permute(axes).flatten().argsort()
        yield from (order + start for start in range(count - prod(grid) + 1))


def _explains(rows: Tensor, cells: Tensor, order: Tensor) -> bool:
    """Whether the rows in this order are the cells, and those besides do not differ at all."""
    if int(order.max()) >= rows.shape[1] or len(order) != cells.shape[1]:
        return False
    wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
    rows, cells = rows.to(wide), cells.to(wide)
    expected = torch.zeros_like(rows)
    expected[:, order.to(rows.device)] = cells
    size = cells.abs().amax()
    return bool(size > 0) and bool((rows - expected).abs().amax() <= 0.02 * size)


def _windows_of(model: nn.Module, name: str) -> tuple[str, tuple[int, ...], tuple[int, ...]] | None:
    """The block around a layer that cuts its input into windows, their size and their shift."""
    modules = dict(model.named_modules(remove_duplicate=False))
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        block = ".".join(parts[:end])
        size, shift = (getattr(modules[block], e, None) for e in ("window_size", "shift_size"))
        if isinstance(size, list | tuple) and isinstance(shift, list | tuple):
            return block, tuple(size), tuple(shift)
    return None


def _windowed(grid: tuple[int, ...], size: tuple[int, ...], shift: tuple[int, ...]) -> Tensor:
    """For each cell, row by row, its place among the tokens of windows, one after the other.

    The grid is padded to whole windows and rolled back by the shift; a window that covers the
    whole of an axis is cut to it and not shifted (Liu et al., 2021, Swin Transformer,
    arXiv:2103.14030, section 3.2).
    """
    whole = [cells <= width for cells, width in zip(grid, size, strict=True)]
    size = tuple(n if w else s for n, s, w in zip(grid, size, whole, strict=True))
    back = tuple(0 if w else -s for s, w in zip(shift, whole, strict=True))
    padded = [-(-n // s) * s for n, s in zip(grid, size, strict=True)]
    numbers = torch.full(padded, -1)
    numbers[tuple(slice(n) for n in grid)] = torch.arange(prod(grid)).reshape(grid)
    rolled = numbers.roll(back, tuple(range(len(grid))))
    split = [each for n, s in zip(padded, size, strict=True) for each in (n // s, s)]
    axes = (*range(0, 2 * len(grid), 2), *range(1, 2 * len(grid), 2))
    tokens = rolled.reshape(split).permute(axes).flatten()
    (there,) = torch.nonzero(tokens >= 0, as_tuple=True)
    return there[tokens[there].argsort()]
