"""Where an activation was positive, a bit for each number, and the gradients that pass there."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Multiplied, the eight bytes of an integer, each 0 or 1, meet in its topmost byte; and back: each
# byte gets a bit of its own.
_GATHER, _SPREAD, _ONES = 0x0102040810204080, 0x0101010101010101, 0x0101010101010101
_ITS_OWN = 0x8040201008040201 - 2**64
# Numbers that are unpacked at once: they stay in the processor's cache.
_PART = 2**20


def pack(x: Tensor) -> Tensor:
    """Where ``x`` is positive (or NaN), one bit for each number, ``(bytes,)``."""
    whole = x.new_zeros(-(-x.numel() // 8) * 8, dtype=torch.bool)
    torch.le(x, 0, out=whole[: x.numel()].view(x.shape))
    words = whole.view(torch.int64)
    words.bitwise_xor_(_ONES).mul_(_GATHER).bitwise_right_shift_(56).bitwise_and_(255)
    return words.to(torch.uint8)


def kept_where_positive(gradient: Tensor, bits: Tensor) -> Tensor:
    """The gradient where the bits are set, else 0."""
    found = torch.empty_like(gradient, memory_format=torch.contiguous_format)
    for part, positive, into in _parts(gradient, bits, found):
        torch.ops.aten.threshold_backward.grad_input(part, positive, 0, grad_input=into)
    return found


def leaked(gradient: Tensor, bits: Tensor, slope: float) -> Tensor:
    """The gradient where the bits are set, else a share of it."""
    found = torch.empty_like(gradient, memory_format=torch.contiguous_format)
    for part, positive, into in _parts(gradient, bits, found):
        torch.ops.aten.leaky_relu_backward.grad_input(part, positive, slope, False, grad_input=into)
    return found


def _parts(
    gradient: Tensor, bits: Tensor, found: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Part by part: the gradient, a number that is positive where the bit is set, the result."""
    flat, into = gradient.reshape(-1), found.view(-1)
    for start in range(0, flat.numel(), _PART):
        part = flat[start : start + _PART]
        words = bits[start // 8 : (start + len(part) + 7) // 8].to(torch.int64)
        words.mul_(_SPREAD).bitwise_and_(_ITS_OWN)
        positive = words.view(torch.uint8)[: len(part)].to(gradient.dtype)
        yield part, positive, into[start : start + _PART]
