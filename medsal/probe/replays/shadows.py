"""Shadows: tensors that stand for those of a clean pass, and know where they differ.

They have no memory of their own: what reads them past torch's calls fails, and is never wrong.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from medsal.probe.replays.boxes import Box, cut, gathered, inside, paste, paste_clean, within
from medsal.probe.replays.recording import Entry, written_by
from medsal.probe.replays.spread import joined, spread


class OddError(Exception):
    """A pass needs what the clean pass did not keep: it must run in full."""


class Shadow(Tensor):
    """A tensor of the clean pass, as a later pass sees it.

    Attributes:
        entry: the clean one.
        box: where it differs; None = nowhere, or everywhere.
        patch: what stands there, ``(samples, c, *size)``.
        whole: its content, where it differs everywhere.
        spoiled: whether what it holds is unknown.
    """

    entry: Entry
    box: Box | None
    patch: Tensor | None
    whole: Tensor | None
    spoiled: bool

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, entry: Entry, *_: Any, samples: int | None = None) -> "Shadow":
        shape, strides = entry.clean_shape, entry.strides
        if samples is not None and samples != shape[0]:
            shape, strides = (samples, *shape[1:]), (prod(shape[1:]), *strides[1:])
        found: Shadow = Tensor._make_wrapper_subclass(
            cls, shape, strides=strides, dtype=entry.dtype, device=entry.device
        )
        return found

    def __init__(
        self,
        entry: Entry,
        box: Box | None = None,
        patch: Tensor | None = None,
        *,
        samples: int | None = None,
    ) -> None:
        self.become(entry, box, patch)

    def become(self, entry: Entry, box: Box | None = None, patch: Tensor | None = None) -> None:
        """Stand for another tensor, as after a step in place."""
        self.entry, self.box, self.patch = entry, box, patch
        self.whole, self.spoiled = None, False

    @property
    def clean_shape(self) -> tuple[int, ...]:
        return self.entry.clean_shape

    @property
    def reached(self) -> bool:
        return self.box is not None or self.whole is not None or self.spoiled

    def held(self) -> Tensor:
        """The clean content.

        Raises:
            OddError: when it was not kept.
        """
        if self.entry.kept is None or self.spoiled:
            raise OddError
        return self.entry.kept

    def content(self, box: Box, beyond: float = 0.0) -> Tensor:
        """What stands in a box, of which a part may hang over."""
        if self.box is None or self.patch is None:
            return cut(self.held(), box, beyond)
        if self.box == box:
            return self.patch
        if inside(box, self.box):
            return cut(self.patch, within(box, self.box), beyond)
        return paste(cut(self.held(), box, beyond), box, self.patch, self.box)

    def write(self, found: Tensor, box: Box) -> None:
        """Put what stands in a box, of which no part hangs over, into its content."""
        if self.box is None or self.patch is None:
            paste_clean(found, box, self.held())
        elif self.box == box:
            found.copy_(self.patch)
        else:
            if not inside(box, self.box):
                paste_clean(found, box, self.held())
            paste(found, box, self.patch, self.box)

    def dense(self) -> Tensor:
        """All of it."""
        if self.whole is not None:
            return self.whole
        if self.box is None or self.patch is None:
            return self.held()
        return gathered(self.held(), self.patch, self.box)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # Seen where no replay is: by another thread, after the pass.
        return run_in_full(func, args, kwargs or {})


def run_in_full(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The call on what the shadows hold; those it writes to hold the result."""
    leaves, spec = spread(args, kwargs)
    real = [each.dense() if isinstance(each, Shadow) else each for each in leaves]
    written = written_by(func, len(leaves), spec)
    for i in written:
        if isinstance(leaves[i], Shadow) and leaves[i].whole is None:
            real[i] = real[i].clone()
    args, kwargs = joined(real, spec)
    result = func(*args, **kwargs)
    if not written:
        return result
    for i in written:
        if isinstance(leaves[i], Shadow):
            leaves[i].whole = real[i]
    back = {id(real[i]): leaves[i] for i in written}
    return tree_map(lambda each: back.get(id(each), each), result)
