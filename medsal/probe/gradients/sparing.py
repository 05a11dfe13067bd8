"""A graph that keeps what the gradient by the image needs, and no more.

Autograd saves the inputs of convolutions, batch norms, activations and poolings: several times what
the forward pass takes. With frozen weights, the gradient needs of a ReLU only where it let through
(a bit), of a batch norm in evaluation mode only its scale, of a convolution only its weights, of a
pooling where its maxima lay. A `TorchFunctionMode` sees these calls and records such steps instead;
what it does not know records its own. Outputs are those of the network's own calls; gradients are
the same but for rounding.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from medsal.probe.gradients.steps import (
    AVERAGES,
    AveragePool,
    BatchNorm,
    Convolution,
    LeakyReLU,
    MaxPool,
    ReLU,
)
from medsal.probe.gradients.trimming import begin, made


class Sparing(TorchFunctionMode):
    """Records steps that keep little, for the calls that it knows."""

    def __enter__(self) -> "Sparing":
        begin()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        spare = _SPARED.get(func)
        output = spare(func, *args, **given) if spare else None
        return func(*args, **given) if output is None else output


@contextmanager
def sparing_later() -> Iterator[Callable[[], None]]:
    """Yields what turns `Sparing` on until the end: before there is a graph it only takes time."""
    before = torch._C._len_torch_function_stack()
    with ExitStack() as leaving:
        begun: list[Sparing] = []

        def begin() -> None:
            # Modes are left in order: not inside one that the network itself has entered.
            inside = torch._C._len_torch_function_stack() > before
            if not begun and not inside:
                begun.append(leaving.enter_context(Sparing()))

        yield begin


def spared_relu(
    func: Any, input: Any, inplace: bool = False, guided: bool = False
) -> Tensor | None:
    """The output of a ReLU that keeps a bit for each number; None where it can't.

    Args:
        func: the call.
        input: what it is called with.
        inplace: likewise.
        guided: whether only positive gradients pass it.
    """
    writes = inplace or func in _WRITING
    if func not in RELUS or not _records(input) or (writes and input._is_view()):
        return None
    return _recorded(ReLU, input, func, {"inplace": True} if inplace else {}, guided)


def in_checkpoint() -> bool:
    """Whether a checkpoint is at work, which counts what is saved and runs again without us."""
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
    return False


def _records(x: Any, *frozen: Any) -> bool:
    """Whether a step is to be recorded for ``x`` alone."""
    return (
        torch.is_grad_enabled()
        and isinstance(x, Tensor)
        and x.requires_grad
        and x.is_floating_point()
        and not any(isinstance(each, Tensor) and each.requires_grad for each in frozen)
        and not in_checkpoint()
    )


def _recorded(step: Any, *args: Any) -> Tensor:
    output: Tensor = step.apply(*args)
    return made(output)


_WRITING: set[Any] = {F.relu_, torch.relu_, Tensor.relu_}
RELUS: set[Any] = {F.relu, torch.relu, Tensor.relu} | _WRITING


def _leaky_relu(
    func: Any, input: Any, negative_slope: float = 0.01, inplace: bool = False
) -> Tensor | None:
    if negative_slope <= 0 or not _records(input) or (inplace and input._is_view()):
        return None
    return _recorded(LeakyReLU, input, func, negative_slope, inplace)


def _batch_norm(
    func: Any,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    known = running_mean is not None and running_var is not None
    if training or not known or not _records(input, running_mean, running_var, weight, bias):
        return None
    stats = (running_mean, running_var, bias)
    return _recorded(BatchNorm, input, func, stats, weight, eps)


def _convolution(
    func: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    return _convolved(func, input, weight, bias, groups, options)


def _transposed(
    func: Any,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor | None:
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    options["output_padding"] = output_padding
    return _convolved(func, input, weight, bias, groups, options)


def _convolved(
    func: Any, input: Any, weight: Any, bias: Any, groups: int, options: dict[str, Any]
) -> Tensor | None:
    how = _on_axes(weight, **options)
    if not how or input.ndim != weight.ndim or not _records(input, weight, bias):
        return None
    return _recorded(Convolution, input, weight, func, bias, {**how, "groups": groups})


def _on_axes(weight: Any, **options: Any) -> dict[str, Any]:
    """Each option as one number per axis; empty where one is no number, as ``padding="same"``."""
    axes = weight.ndim - 2
    found = {}
    for name, value in options.items():
        if isinstance(value, str):
            return {}
        numbers = [value] if isinstance(value, int) else list(value)
        found[name] = numbers * axes if len(numbers) == 1 else numbers
    return found


def _max_pool(
    func: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    axes, places = _POOLS[func]
    if return_indices or input.ndim != axes + 2 or not _records(input):
        return None
    how = {"kernel_size": kernel_size, "stride": stride or None, "padding": padding}
    how |= {"dilation": dilation, "ceil_mode": ceil_mode}
    return _recorded(MaxPool, input, places, how)


def _average_pool(
    func: Any,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor | None:
    if not _records(input):
        return None
    how = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return _recorded(AveragePool, input, func, how)


_POOLS: dict[Any, tuple[int, Any]] = {
    F.max_pool1d: (1, F.max_pool1d_with_indices),
    F.max_pool2d: (2, F.max_pool2d_with_indices),
    F.max_pool3d: (3, F.max_pool3d_with_indices),
}
_SPARED: dict[Any, Callable[..., Tensor | None]] = {
    **dict.fromkeys(RELUS, spared_relu),
    F.leaky_relu: _leaky_relu,
    F.batch_norm: _batch_norm,
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), _convolution),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _transposed),
    **dict.fromkeys(_POOLS, _max_pool),
    **dict.fromkeys(AVERAGES, _average_pool),
}
