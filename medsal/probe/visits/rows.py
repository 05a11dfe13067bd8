"""Many tensors read as one: hundreds of small copies, sums and comparisons take much longer."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

_kind_of = attrgetter("dtype", "device", "ndim")


def alike(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Tensors in groups of one type on one device, with as many axes."""
    kinds: dict[Any, list[Tensor]] = {}
    for each, kind in zip(tensors, map(_kind_of, tensors), strict=True):
        kinds.setdefault(kind, []).append(each)
    return [*kinds.values()]


def in_a_row(tensors: Sequence[Tensor]) -> Tensor:
    """What a group of tensors holds, end to end."""
    axes = tensors[0].ndim
    if axes == 0:
        return torch.stack([*tensors])
    return torch.cat([*tensors] if axes == 1 else [each.reshape(-1) for each in tensors])


def words_of(tensor: Tensor) -> Tensor:
    """What a tensor holds, as whole numbers: long ones, which are quick to go through."""
    content = tensor.detach().contiguous().view(-1)
    width = content.element_size()
    # They start at multiples of eight bytes.
    whole = not content.numel() * width % 8 and not content.storage_offset() * width % 8
    return content.view(torch.int64 if whole else torch.uint8)


def sum_of(tensor: Tensor) -> Tensor:
    """The sum of all words: another one when something was written."""
    return words_of(tensor).sum()


def bits_of(tensor: Tensor) -> int:
    """The same as an int."""
    return int(sum_of(tensor))
