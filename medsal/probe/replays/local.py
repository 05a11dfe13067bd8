"""What known calls do to a box: convolutions, poolings, batch norms, elementwise steps, `cat`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

from medsal.probe.replays.boxes import Box, Reach, around, behind, moved, through

aten: Any = torch.ops.aten
# Above this share of the grid the whole is quicker: cutting and pasting have their price.
SHARE = 0.7


class Operand(Protocol):
    """A tensor of the clean pass, in which a box may have changed."""

    @property
    def clean_shape(self) -> tuple[int, ...]: ...

    @property
    def reached(self) -> bool:
        """Whether the change reaches it."""

    @property
    def box(self) -> Box | None:
        """Where; None = everywhere, or nowhere."""

    def content(self, box: Box, beyond: float = 0.0) -> Tensor:
        """What stands in a box."""

    def write(self, found: Tensor, box: Box) -> None:
        """Put what stands in a box into its content."""

    def held(self) -> Tensor:
        """The clean content."""


@dataclass(frozen=True)
class Step:
    """A call on boxes alone.

    Attributes:
        box: of the (first) output, which changes nowhere else.
        run: makes that box's content.
        needs: the operands whose clean content it needs, beside their boxes.
    """

    box: Box
    run: Callable[[], Tensor]
    needs: Sequence[Any] = ()


def step_of(
    func: Any, args: Sequence[Any], kwargs: dict[str, Any], grid: Sequence[int]
) -> Step | None:
    """The call on boxes; None where it is unknown.

    Args:
        func: an operation of aten.
        args: of it, operands for tensors of the clean pass.
        kwargs: likewise.
        grid: of the (first) output.
    """
    rule = _RULES.get(func)
    if rule is None and torch.Tag.pointwise in func.tags:
        rule = _elementwise
    return rule(func, grid, *args, **kwargs) if rule else None


def _is_operand(x: Any) -> bool:
    return hasattr(x, "clean_shape")


def _fixed(*given: Any) -> list[Any] | None:
    """Those made by the pass itself, such as normed weights; None where the change reaches one."""
    made = [each for each in given if _is_operand(each)]
    return None if any(each.reached for each in made) else made


def _real(x: Any) -> Any:
    return x.held() if _is_operand(x) else x


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(x.clean_shape if _is_operand(x) else x.shape)


def _convolution(
    func: Any,
    grid: Sequence[int],
    x: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Step | None:
    fixed, shape = _fixed(weight, bias), _shape(weight)
    if transposed or fixed is None or not _is_operand(x) or len(x.clean_shape) != len(shape):
        return None
    strides, pads, gaps = (_on_axes(each, grid) for each in (stride, padding, dilation))
    widths = [gap * (n - 1) + 1 for gap, n in zip(gaps, shape[2:], strict=True)]

    def run(region: Tensor) -> Tensor:
        none, (w, b) = [0] * len(grid), map(_real, (weight, bias))
        made: Tensor = func(region, w, b, strides, none, gaps, False, none, groups)
        return made

    return _windowed(x, grid, (widths, strides, pads), 0.0, run, fixed)


def _windowed(
    x: Any,
    grid: Sequence[int],
    reaches: tuple[Sequence[int], ...],
    beyond: float,
    run: Callable[[Tensor], Tensor],
    fixed: Sequence[Any] = (),
) -> Step:
    reach = [Reach(*each) for each in zip(*reaches, strict=True)]
    box = through(x.box, reach, grid)
    looks_at = behind(box, reach)
    alone = all(each == Reach(1, 1, 0) for each in reach)
    return Step(box, lambda: run(x.content(looks_at, beyond)), [*fixed, *([] if alone else [x])])


def _max_pool(
    func: Any,
    grid: Sequence[int],
    x: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Step | None:
    if len(x.clean_shape) != len(grid) + 2:
        return None
    kernel, strides = _on_axes(kernel_size, grid), _on_axes(stride or kernel_size, grid)
    pads, gaps = _on_axes(padding, grid), _on_axes(dilation, grid)
    widths = [gap * (n - 1) + 1 for gap, n in zip(gaps, kernel, strict=True)]

    def run(region: Tensor) -> Tensor:
        made: Tensor = func(region, kernel, strides, [0] * len(grid), gaps)[0]
        return made

    return _windowed(x, grid, (widths, strides, pads), float("-inf"), run)


def _average_pool(
    func: Any,
    grid: Sequence[int],
    x: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Step | None:
    kernel, strides = _on_axes(kernel_size, grid), _on_axes(stride or kernel_size, grid)
    pads = _on_axes(padding, grid)
    # At the border the last two divide by fewer cells.
    if len(x.clean_shape) != len(grid) + 2 or ceil_mode or (any(pads) and not count_include_pad):
        return None

    def run(region: Tensor) -> Tensor:
        none = [0] * len(grid)
        made: Tensor = func(region, kernel, strides, none, False, True, divisor_override)
        return made

    return _windowed(x, grid, (kernel, strides, pads), 0.0, run)


def _pad(
    func: Any, grid: Sequence[int], x: Any, pad: Sequence[int], value: float = 0.0
) -> Step | None:
    # From the last axis on, before and after; what it adds is clean.
    before = [*pad[::2], *(0 for _ in grid)][: len(grid)][::-1]
    if min(pad) < 0 or len(pad) > 2 * len(grid) or len(x.clean_shape) != len(grid) + 2:
        return None
    box = moved(x.box, before)
    return Step(box, lambda: x.content(x.box).clone())


def _batch_norm(func: Any, grid: Sequence[int], x: Any, *args: Any) -> Step | None:
    *scales, trains = args[:5]
    fixed = _fixed(*scales)
    if trains or fixed is None or scales[2] is None or scales[3] is None or x.box is None:
        return None
    return Step(x.box, lambda: func(x.content(x.box), *map(_real, scales), *args[4:])[0], fixed)


def _elementwise(func: Any, grid: Sequence[int], *args: Any, **kwargs: Any) -> Step | None:
    on_grid = [_is_operand(each) and _shape(each)[2:] == tuple(grid) for each in args]
    large = [each for each, there in zip(args, on_grid, strict=True) if there]
    small = [
        each
        for each, there in zip(args, on_grid, strict=True)
        if not there and (_is_operand(each) or isinstance(each, Tensor))
    ]
    fixed = _fixed(*small)
    alike = all(_everywhere(_shape(each), len(grid) + 2) for each in small)
    if fixed is None or not alike or any(map(_is_operand, kwargs.values())):
        return None
    box = around([each.box for each in large if each.box], grid)

    def run() -> Tensor:
        parts = (
            each.content(box) if there else _real(each)
            for each, there in zip(args, on_grid, strict=True)
        )
        made: Tensor = func(*parts, **kwargs)
        return made

    return Step(box, run, [*fixed, *_apart(large, box)])


def _apart(operands: Sequence[Any], box: Box) -> list[Any]:
    """Those that are changed elsewhere, for some sample, or nowhere."""
    return [each for each in operands if each.box is None or each.box.spans != box.spans]


def _everywhere(shape: tuple[int, ...], axes: int) -> bool:
    """Whether a tensor has the same numbers for all samples and cells."""
    return prod(shape) == 1 or (len(shape) == axes and prod(shape) == shape[1])


def _cat(func: Any, grid: Sequence[int], tensors: Sequence[Any], dim: int = 0) -> Step | None:
    same = all(_is_operand(e) and tuple(e.clean_shape[2:]) == tuple(grid) for e in tensors)
    if dim not in (1, -len(grid) - 1) or not same:
        return None
    box = around([each.box for each in tensors if each.box], grid)

    def run() -> Tensor:
        # Each goes to its place at once: `cat` would copy the boxes that were cut out.
        channels = [each.clean_shape[1] for each in tensors]
        dtype = reduce(torch.promote_types, (each.dtype for each in tensors))
        shape = (len(box.starts), sum(channels), *box.size)
        found = torch.empty(shape, dtype=dtype, device=tensors[0].device)
        for each, part in zip(tensors, torch.split(found, channels, 1), strict=True):
            each.write(part, box)
        return found

    return Step(box, run, _apart(tensors, box))


def _copy(func: Any, grid: Sequence[int], x: Any, **kwargs: Any) -> Step | None:
    kwargs.pop("memory_format", None)
    return Step(x.box, lambda: func(x.content(x.box), **kwargs))


def _on_axes(value: Sequence[int], grid: Sequence[int]) -> list[int]:
    return list(value) * len(grid) if len(value) == 1 else list(value)


def _there(*names: str) -> list[Any]:
    """The operations of these names that this version of torch has."""
    return [getattr(aten, each).default for each in names if hasattr(aten, each)]


_RULES: dict[Any, Callable[..., Step | None]] = {
    aten.convolution.default: _convolution,
    **dict.fromkeys(_there("max_pool2d_with_indices", "max_pool3d_with_indices"), _max_pool),
    **dict.fromkeys(_there("avg_pool2d", "avg_pool3d"), _average_pool),
    aten.constant_pad_nd.default: _pad,
    **dict.fromkeys(
        _there("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"), _batch_norm
    ),
    aten.cat.default: _cat,
    **dict.fromkeys(_there("_prelu_kernel", "hardswish", "hardswish_"), _elementwise),
    # No tag tells it of these in torch 2.6.
    **dict.fromkeys(
        _there("leaky_relu", "leaky_relu_", "elu_", "celu_", "selu_", "hardtanh_", "hardsigmoid_"),
        _elementwise,
    ),
    **dict.fromkeys(_there("clone", "_to_copy"), _copy),
}
