"""Steps of a graph that keep little for the backward pass; see `sparing`.

Each runs the network's own call and takes the place of the step that autograd would record.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medsal.probe.gradients.bits import kept_where_positive, leaked, pack
from medsal.probe.gradients.narrow import is_narrow, narrow_gradient
from medsal.probe.gradients.trimming import made
from medsal.probe.gradients.turned import pays, turned_gradient


class ReLU(torch.autograd.Function):
    """Keeps where the output is positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, func: Any, how: Any, guided: bool) -> Tensor:
        output: Tensor = func(x, **how)
        ctx.save_for_backward(pack(output))
        ctx.guided = guided
        if output is x:
            ctx.mark_dirty(x)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (bits,) = ctx.saved_tensors
        found = made(kept_where_positive(gradients[0], bits))
        return found.clamp_(min=0) if ctx.guided else found, None, None, None


class LeakyReLU(torch.autograd.Function):
    """Keeps where the output is positive; the slope below must be, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, func: Any, slope: float, inplace: bool) -> Tensor:
        output: Tensor = func(x, slope, inplace)
        ctx.save_for_backward(pack(output))
        ctx.slope = slope
        if output is x:
            ctx.mark_dirty(x)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (bits,) = ctx.saved_tensors
        return leaked(gradients[0], bits, ctx.slope), None, None, None


class BatchNorm(torch.autograd.Function):
    """Keeps the scale of each channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, func: Any, stats: Any, weight: Any, eps: float) -> Tensor:
        mean, variance, bias = stats
        scale = torch.rsqrt(variance + eps)
        scale = scale if weight is None else scale * weight
        ctx.save_for_backward(scale)
        output: Tensor = func(x, mean, variance, weight, bias, False, 0.0, eps)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (scale,) = ctx.saved_tensors
        (gradient,) = gradients
        shaped = scale.reshape(1, -1, *(1 for _ in gradient.shape[2:]))
        return made((gradient * shaped).to(gradient.dtype)), None, None, None, None


class Convolution(torch.autograd.Function):
    """Keeps the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, func: Any, bias: Any, how: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.how = x.shape, how
        output: Tensor = func(x, weight, bias, **how)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        # Under autocast the output, so its gradient, is of another type than the weights.
        found = _input_gradient(gradients[0], weight.to(gradients[0].dtype), ctx.size, **ctx.how)
        return made(found), None, None, None, None


def _input_gradient(
    gradient: Tensor,
    weight: Tensor,
    size: torch.Size,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    output_padding: list[int] | None = None,
) -> Tensor:
    plain = groups == 1 and output_padding is None and all(each == 1 for each in dilation)
    if plain and is_narrow(weight) and gradient.dtype in (torch.float32, torch.float64):
        return narrow_gradient(gradient, weight, size[2:], stride, padding)
    if plain and pays(gradient, weight, gradient.new_empty(1).expand(size), stride, padding):
        return turned_gradient(gradient, weight, padding)
    image = _shaped(gradient, size)
    transposed, beyond = output_padding is not None, output_padding or [0] * len(stride)
    # Of the input, the shape alone is read.
    found: Tensor = torch.ops.aten.convolution_backward(
        gradient, image, weight, None, stride, padding, dilation,
        transposed, beyond, groups, [True, False, False],
    )[0]  # fmt: skip
    return found


def _shaped(like: Tensor, size: torch.Size) -> Tensor:
    """A tensor of that shape whose numbers are never read: on a CPU it takes no memory."""
    return like.new_empty(size) if like.device.type == "cpu" else like.new_empty(1).expand(size)


class MaxPool(torch.autograd.Function):
    """Keeps where in its plane each maximum lay."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, func: Any, how: Any) -> Tensor:
        output, places = func(x, **how)
        ctx.save_for_backward(places.int())
        ctx.size = x.shape
        return output  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (places,) = ctx.saved_tensors
        flat = gradients[0].new_zeros(*ctx.size[:2], ctx.size[2:].numel())
        flat.scatter_add_(2, places.flatten(2).long(), gradients[0].flatten(2))
        return flat.view(ctx.size), None, None


AVERAGES: dict[Any, Any] = {
    F.avg_pool2d: torch.ops.aten.avg_pool2d_backward,
    F.avg_pool3d: torch.ops.aten.avg_pool3d_backward,
}


class AveragePool(torch.autograd.Function):
    """Keeps nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, func: Any, how: Any) -> Tensor:
        ctx.size, ctx.back, ctx.how = x.shape, AVERAGES[func], how
        output: Tensor = func(x, *how)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        kernel, stride, *how = ctx.how
        (gradient,) = gradients
        like = gradient.new_empty(ctx.size)
        return ctx.back(gradient, like, kernel, stride or kernel, *how), None, None
