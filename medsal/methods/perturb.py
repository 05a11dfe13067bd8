"""Maps from what the score loses when parts of the image are hidden; no gradient is computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import ceil
from typing import Any, ClassVar

import torch
from torch import Tensor

from medsal.methods.baseline import Baseline, HoldsTensors, baseline_of, check_baseline
from medsal.methods.many import check_count, places, repeated, scores_of, streamed_sum, wide
from medsal.methods.registry import Method, register
from medsal.ops import resize
from medsal.probe import Box, Probe
from medsal.targets import settle
from medsal.types import Image, Map

Extent = int | Sequence[int] | None
Window = tuple[slice, ...]


@register("occlusion")
@dataclass(frozen=True, eq=False, repr=False)
class Occlusion(HoldsTensors, Method):
    """What the score loses when a window of the image is hidden; signed.

    ``map_i = mean over the windows w that cover i of S(x) - S(x without w)``: high where the score
    needs the voxel. All channels are hidden together. The paper slides a grey square and shows the
    score itself.

    Border: windows start at 0, ``stride``, 2 ``stride``... and the last one on each axis is cut off
    at the image's end, so every voxel is covered and no window hangs over the near end.

    Args:
        window: voxels along each axis, or one number for all; None = an eighth of each axis.
        stride: likewise, at most the window; None = the window, so nothing is hidden twice (512
            passes in 3D).
        fill: what a hidden voxel shows: a number; ``"mean"`` of the channel; ``"blur"``; a tensor
            that broadcasts against the image. 0 in z-scored scans is the mean.
        batch: samples in one pass of the model.
        coarse: windows along each axis of a block that is hidden at once, before any window is; 1 =
            every window is hidden by itself. The result notes how many were. For networks that look
            somewhere (`tutorials/cost.md` has figures): where everything matters the blocks come on
            top, and they are blind to what cancels within one.
        tolerance: what a block may lose, as a share of what the block loses that matters most, for
            its windows not to be looked at: each is then said to lose an equal part. A block is
            looked at where any sample or target asks for it; with 0 all are.
    """

    window: Extent = None
    stride: Extent = None
    fill: Baseline = 0.0
    batch: int = 8
    coarse: int = field(default=1, kw_only=True)
    tolerance: int | float = field(default=0.05, kw_only=True)

    one_pass: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Zeiler and Fergus, 2014, Visualizing and Understanding Convolutional Networks, "
        "arXiv:1311.2901, section 4.2"
    )

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            object.__setattr__(self, name, _checked_extent(name, getattr(self, name)))
        check_baseline("fill", self.fill)
        check_count("batch", self.batch)
        check_count("coarse", self.coarse)
        if not 0 <= self.tolerance <= 1:
            raise ValueError(f"expected tolerance as a share from 0 to 1, got {self.tolerance!r}")

    def __call__(self, probe: Probe, image: Image) -> Map:
        along = self._windows(image.shape[2:])
        if self.coarse == 1:
            windows = list(product(*along))
            lost = _losses(probe, image, self.fill, windows, self.batch)
        else:
            windows, lost = self._searched(probe, image, along)
        scores = lost.shape[1:]
        total = lost.new_zeros(*scores, *image.shape[2:])
        covered = lost.new_zeros(image.shape[2:])
        for window, each in zip(windows, lost, strict=True):
            total[_at(window)] += each.reshape(*scores, *(1 for _ in window))
            covered[window] += 1
        return total / covered

    def _searched(
        self, probe: Probe, image: Image, along: Sequence[Sequence[slice]]
    ) -> tuple[list[Window], Tensor]:
        """All windows, block by block, and what the scores lose without each, ``(w, n, t)``."""
        step = self.coarse
        parts = [[axis[i : i + step] for i in range(0, len(axis), step)] for axis in along]
        within = [list(product(*block)) for block in product(*parts)]
        hulls = [[slice(part[0].start, part[-1].stop) for part in axis] for axis in parts]
        rough = _losses(probe, image, self.fill, list(product(*hulls)), self.batch)
        largest = rough.abs().amax(0)
        small = rough.abs() < self.tolerance * largest
        small |= (largest == 0) & (self.tolerance > 0)  # no block matters to this sample or target
        passed = small.flatten(1).all(1).tolist()
        asked = [w for block, over in zip(within, passed, strict=True) if not over for w in block]
        fine = iter(_losses(probe, image, self.fill, asked, self.batch) if asked else ())
        lost = [
            whole / len(block) if over else next(fine)
            for whole, block, over in zip(rough, within, passed, strict=True)
            for _ in block
        ]
        probe.record.note(
            f"of {len(lost)} windows the {len(asked)} were hidden one by one that lie in "
            f"{len(passed) - sum(passed)} of {len(passed)} blocks; the others lose an equal part "
            f"of their block's loss",
            about="occlusion",
            worse=sum(passed) / len(passed),
        )
        return [window for block in within for window in block], torch.stack(lost)

    def _windows(self, size: Sequence[int]) -> list[list[slice]]:
        """The windows along each axis."""
        axes = len(size)
        window = _on_axes("window", self.window, axes) or [ceil(each / 8) for each in size]
        stride = _on_axes("stride", self.stride, axes) or window
        if any(step > width for step, width in zip(stride, window, strict=True)):
            raise ValueError(
                f"expected a stride of at most the window {tuple(window)}, so that every voxel is "
                f"covered, got {tuple(stride)}"
            )
        return list(map(_along, size, window, stride))


def _along(voxels: int, width: int, step: int) -> list[slice]:
    """The windows on one axis; the last one may be cut off."""
    count = ceil(max(voxels - width, 0) / step) + 1
    return [slice(i * step, min(i * step + width, voxels)) for i in range(count)]


def _at(window: Window) -> Any:
    """The index of a window of the spatial axes."""
    return (..., *window)


def _losses(
    probe: Probe, image: Image, fill: Baseline, windows: Sequence[Window], batch: int
) -> Tensor:
    """What the scores lose without each window, ``(w, n, t)``."""
    filled, size = baseline_of(image, fill), image.shape[2:]
    extent = [max(each.stop - each.start for each in axis) for axis in zip(*windows, strict=True)]
    times = places(probe, len(image), batch)
    starts = [_start(window, extent, size) for window in windows]
    with probe.keeping(image, boxes=Box(tuple(starts), tuple(extent))) as clean:
        # What is predicted is read off the clean pass, and the same is asked of the others.
        settled = tuple(settle(each, clean.output) for each in probe.targets)
        probe = replace(probe, target=settled)
        whole = wide(probe.scores_kept(clean))
        lost = [torch.zeros_like(whole)] * len(windows)
        # Nothing changes where the image shows already what a hidden voxel shows.
        seen = [i for i, w in enumerate(windows) if not torch.equal(image[_at(w)], filled[_at(w)])]
        # Windows that are as far from the border go together: what they reach is as large.
        seen.sort(key=lambda i: _from_border(windows[i], size))
        for k in range(0, len(seen), times):
            group = seen[k : k + times]
            patches = [_patch(image, filled, windows[i], starts[i], extent) for i in group]
            box = Box(tuple(starts[i] for i in group for _ in image), tuple(extent))
            asked = repeated(probe, len(group), len(image))
            scores = wide(asked.scores_patched(clean, torch.cat(patches), box))
            for i, each in zip(group, torch.split(scores, len(image)), strict=True):
                lost[i] = whole - each
    return torch.stack(lost)


def _from_border(window: Window, size: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(w.start, n - w.stop) for w, n in zip(window, size, strict=True))


def _start(window: Window, extent: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    """Where a box of this extent starts that holds the window."""
    return tuple(min(w.start, n - e) for w, n, e in zip(window, size, extent, strict=True))


def _patch(
    image: Image, filled: Image, window: Window, start: Sequence[int], extent: Sequence[int]
) -> Tensor:
    """What stands in a box of the image with a window hidden."""
    patch = image[_at(tuple(slice(a, a + e) for a, e in zip(start, extent, strict=True)))].clone()
    inside = tuple(slice(w.start - a, w.stop - a) for w, a in zip(window, start, strict=True))
    patch[_at(inside)] = filled[_at(window)]
    return patch


@register("rise")
@dataclass(frozen=True, eq=False, repr=False)
class RISE(HoldsTensors, Method):
    """The mean of many random masks, each weighted by the score of the image seen through it.

    ``map_i = 1 / (p N) sum_j S(x m_j) m_ji`` (equation 6). A mask is a coarse grid of cells that
    are 1 with the probability p, else 0, upsampled linearly to one cell more than the image on each
    axis and cropped at a random place (section 3.2; a cell's width is rounded up, as in the
    authors' code). Masks are made on the fly, one at a time.

    The paper takes the class's probability: ``target=ClassScore(k, activation="softmax")``. A logit
    adds nearly the same to all voxels, with noise; ``centred=True`` subtracts the mean score first,
    which changes the mean map by a constant alone and makes it far less noisy.

    Args:
        masks: how many; the paper takes 4000 and 8000 for photographs.
        cells: of the coarse grid along each axis, or one number for all; at most one per voxel.
        p: the probability that a cell is seen.
        seed: of the masks; the global random state is not touched. All samples see the same masks.
        fill: what a hidden voxel shows; 0 as in the paper, or as in `Occlusion`.
        centred: subtract the mean score over the masks.
        batch: samples in one pass of the model.
    """

    masks: int = 1000
    cells: int | Sequence[int] = 7
    p: float = 0.5
    seed: int = 0
    fill: Baseline = 0.0
    centred: bool = False
    batch: int = 8

    source: ClassVar[str] = (
        "Petsiuk et al., 2018, RISE: Randomized Input Sampling for Explanation of Black-box "
        "Models, arXiv:1806.07421, equation 6 and section 3.2"
    )

    def __post_init__(self) -> None:
        check_count("masks", self.masks)
        check_count("batch", self.batch)
        check_baseline("fill", self.fill)
        object.__setattr__(self, "cells", _checked_extent("cells", self.cells))
        if not 0 < self.p < 1:
            raise ValueError(f"expected p as a probability between 0 and 1, got {self.p!r}")

    def __call__(self, probe: Probe, image: Image) -> Map:
        filled = baseline_of(image, self.fill)
        seen = (filled + mask.to(image) * (image - filled) for mask in self.drawn(image))
        scores = scores_of(probe, seen, self.batch)
        if self.centred:
            kept = torch.stack(list(scores))
            scores = iter(kept - kept.mean(0))
        axes = tuple(1 for _ in image.shape[2:])
        masks = (mask.to(wide(image)) for mask in self.drawn(image))
        parts = (
            score.reshape(*score.shape, *axes) * mask
            for score, mask in zip(scores, masks, strict=True)
        )
        return streamed_sum(parts, [1 / (self.masks * self.p)] * self.masks)

    def drawn(self, image: Image) -> Iterator[Tensor]:
        """The masks on the image's grid, ``(*s)``, whose cells are drawn on the host."""
        size = image.shape[2:]
        cells = _on_axes("cells", self.cells, len(size))
        cells = [min(count, voxels) for count, voxels in zip(cells, size, strict=True)]
        width = [ceil(voxels / count) for voxels, count in zip(size, cells, strict=True)]
        larger = [(count + 1) * each for count, each in zip(cells, width, strict=True)]
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.masks):
            grid = (torch.rand(1, 1, *cells, generator=generator) < self.p).float()
            shift = [int(torch.randint(each, (), generator=generator)) for each in width]
            crop = tuple(slice(a, a + n) for a, n in zip(shift, size, strict=True))
            yield resize(grid.to(image.device), larger)[_at(crop)][0, 0]


def _checked_extent(name: str, value: Extent) -> Extent:
    """Voxels or cells: one number, or a tuple with one for each axis.

    Raises:
        ValueError: when one is no whole number of at least 1.
    """
    if value is None or isinstance(value, int):
        check_count(name, 1 if value is None else value)
        return value
    for each in value:
        check_count(name, each)
    return tuple(value)


def _on_axes(name: str, value: Extent, axes: int) -> list[int]:
    """One number for each axis; empty for None.

    Raises:
        ValueError: when there is another number of them.
    """
    if value is None:
        return []
    numbers = [value] * axes if isinstance(value, int) else list(value)
    if len(numbers) != axes:
        raise ValueError(f"expected one {name} or {axes} (one per axis), got {tuple(numbers)}")
    return numbers
