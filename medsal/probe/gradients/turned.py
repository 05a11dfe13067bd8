"""The gradient by the input of a convolution, as a convolution with the weights turned round.

For one small sample torch's convolutions on a CPU unroll the image into a matrix, forward and
backward, and take several times as long as oneDNN, which it uses for all others; and where few
channels come out, oneDNN's own gradient takes several times as long as its convolution. Backward,
where the network's own call is over, the convolution is asked for by name, and of kernels of one
voxel the product of matrices: the same sums, in another order.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

# How many channels oneDNN takes at once: of fewer it computes as many.
_BLOCK = 16
_THERE: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def pays(
    gradient: Tensor,
    weight: Tensor,
    image: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
) -> bool:
    """Whether it can be done and is quicker than what torch would do.

    Args:
        gradient: by the output, ``(n, o, *f)``.
        weight: ``(o, c, *kernel)``; neither groups nor dilation.
        image: a tensor of the input's shape.
        stride: of the convolution along each axis.
        padding: of the convolution along each axis, with zeros.
    """
    axes = len(stride)
    within = all(p < k for p, k in zip(padding, weight.shape[2:], strict=True))
    if gradient.dtype != torch.float32 or axes == 1 or any(s > 1 for s in stride) or not within:
        return False
    if not (_THERE and torch.backends.mkldnn.enabled):
        return False
    how: list[Any] = [stride, padding, [1] * axes, False, [0] * axes, 1]
    backend: Any = torch._C._select_conv_backend(image, weight, None, *how)
    if backend.name in ("Slow2d", "Slow3d"):
        # The turned weights are a copy, and oneDNN makes another: much, beside few cells.
        return _is_point(weight) or 2 * prod(gradient.shape[2:]) >= len(weight)
    return backend.name == "Mkldnn" and len(weight) < _BLOCK


def turned_gradient(gradient: Tensor, weight: Tensor, padding: Sequence[int]) -> Tensor:
    """The gradient by the input ``(n, c, *s)`` from that by the output ``(n, o, *f)``."""
    kernel, size = weight.shape[2:], gradient.shape[2:]
    if _is_point(weight):
        product: Tensor = weight.flatten(1).t() @ gradient.flatten(2)
        return product.view(*product.shape[:2], *size)
    swapped = weight.transpose(0, 1)
    # Along one axis: a copy that flips several takes several times as long.
    turned = swapped.flatten(2).flip(2).view(swapped.shape)
    beyond = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
    ones = [1] * len(kernel)
    return torch.mkldnn_convolution(gradient, turned, None, beyond, ones, ones, 1)


def _is_point(weight: Tensor) -> bool:
    return all(each == 1 for each in weight.shape[2:])
