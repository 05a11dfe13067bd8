"""The layer that `layer=None` means: the last one that still has all spatial axes."""

import itertools
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.pooling import _AvgPoolNd, _LPPoolNd, _MaxPoolNd

# How many layers may lie between a segmentation's features and its output: those of one block.
_DEPTH = 4
_POOLS = (_AvgPoolNd, _MaxPoolNd, _LPPoolNd)


@dataclass(eq=False)
class Candidate:
    """A layer that was the last one for a while.

    Attributes:
        name: its dotted name; that of the outermost module that hands on the same tensor.
        made_by: the module that made the tensor.
        weighs: whether that module has parameters.
        channels: how many its output has.
        last_call: whether the module has not been called again on a grid: a name means its last
            call.
    """

    name: str
    made_by: str
    weighs: bool
    channels: int
    last_call: bool = True


class LastSpatial:
    """Follows a forward pass and keeps the last layer that still has all spatial axes.

    A layer whose grid is 1 voxel wide on every axis counts when strides brought it there, not when
    a global pooling did: tensors of such grids are followed from layer to layer. Containers that
    hand on a layer's tensor give it their name (``layer4`` for ``layer4.1``). Where the model puts
    out a map itself, a segmentation, the layer that makes it does not count.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.candidates: list[Candidate] = []
        self._tensor: Tensor | None = None
        self._version = 0
        # By id: True = shrunk by strides, False = pooled. Not kept themselves: the graph of a gate
        # holds what is gated.
        self._points: dict[int, tuple[weakref.ref[Tensor], bool]] = {}

    def admits(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> bool:
        """Whether this layer's output is the new last one."""
        if (
            not isinstance(output, Tensor)
            or output.ndim != self.image.ndim
            or output.shape[0] != self.image.shape[0]
            or not output.is_floating_point()
        ):
            return False
        # The same tensor, unless an activation in place wrote to it.
        if output is self._tensor and output._version == self._version:
            # Not what merely passes it on, which may be one branch of several.
            if self.candidates[-1].made_by.startswith(f"{name}."):
                self.candidates[-1].name = name
            return False
        for each in self.candidates:
            each.last_call &= name != each.name
        if self._is_point(output) and not self._strided(module, inputs, output):
            return False
        weighs = any(True for _ in module.parameters())
        self.candidates.append(Candidate(name, name, weighs, output.shape[1]))
        return True

    def went_on(self, tensor: Tensor) -> None:
        """Note the tensor that went on in the admitted output's place."""
        self._tensor, self._version = tensor, tensor._version
        if self._is_point(tensor):
            self._note(tensor, True)

    def chosen(self, output: Any) -> int | None:
        """Which of the candidates it is, as the model ends with this output; None without any."""
        left = list(self.candidates)
        if self._is_own(output):
            while left:
                last = left.pop()
                inside = [each for each in left if each.made_by.startswith(f"{last.made_by}.")]
                if last.weighs and len(inside) < len(left):
                    # A block that adds its branches up is one layer.
                    left = [each for each in left if each not in inside]
                    break
        left = [each for each in left if each.last_call]
        return next((i for i, each in enumerate(self.candidates) if each in left[-1:]), None)

    def left_open(self, ends: Sequence[str]) -> int:
        """How many of the last candidates may yet be chosen, at most `_DEPTH`.

        One before others counts where these turn out to make the model's own map: as a single
        layer, or as a block that it is no part of.

        Args:
            ends: the names of the modules that were registered last: a network that makes its map
                elsewhere is asked in a pass more.
        """
        candidates, latest = self.candidates[-_DEPTH:], self.candidates[-1].made_by
        if not any(end == latest or end.startswith(f"{latest}.") for end in ends):
            return 1
        for i, each in enumerate(candidates[:-1]):
            after = [other.made_by for other in candidates[i + 1 :]]
            if len(after) > 1 and after[-1] == ends[-1] and not candidates[-1].weighs:
                after.pop()  # an activation at the model's end
            block = _common(after)
            if block and not each.made_by.startswith(f"{block}."):
                return len(candidates) - i
        return 1

    def _is_own(self, output: Any) -> bool:
        """Whether the last layer makes the model's output, a map: itself, or its logits."""
        if self._tensor is None:
            return False
        values = list(output.values()) if isinstance(output, Mapping) else [output]
        first = [_first(value) for value in values]
        maps = [
            each.ndim == self.image.ndim and not self._is_point(each)
            for each in first
            if isinstance(each, Tensor)
        ]
        return all(maps) and any(
            _same_memory(each, self._tensor)
            or each.shape[:2] == (self.image.shape[0], self.candidates[-1].channels)
            for each in first
            if isinstance(each, Tensor)
        )

    def _is_point(self, tensor: Tensor) -> bool:
        grid, size = tensor.shape[2:], self.image.shape[2:]
        return all(cells == 1 for cells in grid) and any(voxels > 1 for voxels in size)

    def _note(self, point: Tensor, strided: bool) -> None:
        self._points[id(point)] = (weakref.ref(point), strided)

    def _noted(self, tensor: Tensor) -> bool | None:
        """Whether strides shrank it to a point; None where it has not been met."""
        met, strided = self._points.get(id(tensor), (None, False))
        return strided if met and met() is tensor else None

    def _strided(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> bool:
        known = self._noted(output)
        if known is not None:
            return known
        tensors = [each for each in inputs if isinstance(each, Tensor) and each.ndim == output.ndim]
        met = [self._noted(each) for each in tensors]
        pooled = "Adaptive" in type(module).__name__ or False in met
        wide = any(
            not self._is_point(each) or of is not None
            for each, of in zip(tensors, met, strict=True)
        )
        strided = wide and not pooled
        self._note(output, strided)
        # A pooling over all that is left may be the global one: features go on counting after it.
        return strided and not isinstance(module, _POOLS)


def _common(names: Sequence[str]) -> str:
    """The innermost module that holds all of these modules: of one, itself."""
    parts = [each.split(".") for each in names]
    shared = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False))
    return ".".join(each[0] for each in shared)


def _first(value: Any) -> Any:
    # Of several outputs, the first is the one that classes and channels refer to.
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
