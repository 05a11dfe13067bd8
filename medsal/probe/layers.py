"""Layers: what there is, which one is meant, which one is the default."""

import difflib
import re
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Replace = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]
"""Called as a layer ends, with its name, module, inputs and output; returns what goes on in the
output's place, or None."""

_PART = re.compile(r"(?P<name>.*?)\[(?P<part>\d+)\]")
_default: "weakref.WeakKeyDictionary[nn.Module, str]" = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Layer:
    """One layer as a forward pass met it.

    Attributes:
        name: its dotted name, as `layer=` takes it.
        kind: the class of the module.
        shape: the shape of its output, ``(n, k, *f)``; of a list or tuple, None.
        parts: the shapes of a list's or tuple's tensors, to be named as ``name[i]``.
        default: True for the one that ``layer=None`` means.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parts: tuple[tuple[int, ...], ...] = ()
    default: bool = False


@contextmanager
def watching(modules: dict[str, nn.Module], watch: Replace) -> Iterator[None]:
    """Call ``watch`` as each of these modules ends, in this thread alone."""
    thread = threading.get_ident()

    def hook_of(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            # Hooks sit on the shared model: another thread's forward pass is none of our business.
            return watch(name, module, inputs, output) if threading.get_ident() == thread else None

        return hook

    with ExitStack() as handles:
        for name, module in modules.items():
            handles.callback(module.register_forward_hook(hook_of(name)).remove)
        yield


def named_layer(model: nn.Module, name: str) -> tuple[nn.Module, int | None]:
    """The module of a dotted name, and which part of its output is meant.

    ``"encoder[2]"`` means the third tensor of a list or tuple.

    Raises:
        LookupError: when there is none of that name; near ones are given.
        TypeError: when the model is TorchScript, whose layers can't be tapped.
    """
    reject_script(model)
    layers = {key: module for key, module in model.named_modules() if key}
    if name in layers:
        return layers[name], None
    match = _PART.fullmatch(name)
    if match and match["name"] in layers:
        return layers[match["name"]], int(match["part"])
    near = difflib.get_close_matches(name, layers, n=3, cutoff=0.4) or list(layers)[-3:]
    raise LookupError(
        f"{type(model).__name__} has no layer {name!r}; near it: {', '.join(map(repr, near))}; "
        f"all layers: medsal.layers(model, image)"
    )


def reject_script(model: nn.Module) -> None:
    """Refuse TorchScript, whose layers no hook sees.

    Raises:
        TypeError: when the model is TorchScript.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "expected a Python module, got TorchScript, whose layers can't be reached; load the "
            "network itself, or use a method without a layer, such as 'gradient'"
        )


def chosen_part(name: str, output: Any, part: int | None) -> Tensor:
    """The tensor of a layer's output that a name means.

    Raises:
        TypeError: when the output is no tensor and no part (or no such part) is named.
    """
    if part is None and isinstance(output, Tensor):
        return output
    tensors: list[Any] = list(output) if isinstance(output, tuple | list) else []
    chosen = tensors[part] if part is not None and part < len(tensors) else None
    if isinstance(chosen, Tensor):
        return chosen
    shapes = ", ".join(
        f"'{name}[{i}]' {tuple(each.shape)}"
        for i, each in enumerate(tensors)
        if isinstance(each, Tensor)
    )
    kind = type(output).__name__
    raise TypeError(
        f"layer {name!r} puts out a {kind}, not one tensor; "
        f"name a part of it: {shapes or 'it has none'}"
    )


def with_part(output: Any, part: int | None, tensor: Tensor) -> Any:
    """The layer's output with the chosen part replaced."""
    if part is None:
        return tensor
    parts = [tensor if i == part else each for i, each in enumerate(output)]
    if hasattr(output, "_fields"):
        return type(output)(*parts)
    return type(output)(parts)


class LastSpatial:
    """Follows a forward pass and keeps the last layer that still has all spatial axes.

    A layer whose grid is 1 voxel wide on every axis counts when strides brought it there, not when
    a global pooling
    did: tensors of such grids are followed from layer to layer. Containers that hand on a layer's
        tensor give it their name (``layer4``
    for ``layer4.1``). The model's own output, a segmentation, does not count.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.name: str | None = None
        self._tensor: Tensor | None = None
        self._before: str | None = None
        # By id, with the tensor kept so that the id stays its own: True = shrunk by strides, False
        # = pooled.
        self._points: dict[int, tuple[Tensor, bool]] = {}

    def admits(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> bool:
        """Whether this layer's output is the new last one."""
        if (
            not isinstance(output, Tensor)
            or output.ndim != self.image.ndim
            or not output.is_floating_point()
        ):
            return False
        if output is self._tensor:
            self.name = name
            return False
        if self._is_point(output) and not self._strided(module, inputs, output):
            return False
        self._before, self.name = self.name, name
        return True

    def went_on(self, tensor: Tensor) -> None:
        """Note the tensor that went on in the admitted output's place."""
        self._tensor = tensor
        if self._is_point(tensor):
            self._points[id(tensor)] = (tensor, True)

    def ended(self, output: Any) -> bool:
        """Whether the layer stands; False when it is the output itself: the one before is taken."""
        # Of several outputs, the first is the one that classes and channels refer to.
        while isinstance(output, tuple | list) and output:
            output = output[0]
        if self._tensor is None or output is not self._tensor:
            return True
        self.name = self._before
        return False

    def _is_point(self, tensor: Tensor) -> bool:
        grid, size = tensor.shape[2:], self.image.shape[2:]
        return all(cells == 1 for cells in grid) and any(voxels > 1 for voxels in size)

    def _strided(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> bool:
        if id(output) in self._points:
            return self._points[id(output)][1]
        tensors = [each for each in inputs if isinstance(each, Tensor) and each.ndim == output.ndim]
        pooled = "Adaptive" in type(module).__name__ or any(
            id(each) in self._points and not self._points[id(each)][1] for each in tensors
        )
        wide = any(not self._is_point(each) or id(each) in self._points for each in tensors)
        strided = wide and not pooled
        self._points[id(output)] = (output, strided)
        return strided


def remember_default(model: nn.Module, name: str | None) -> str:
    """Keep the default layer of a model, found once.

    Raises:
        ValueError: when there is none.
    """
    if name is None:
        raise ValueError(
            f"no layer of {type(model).__name__} keeps the image's spatial axes: there are no "
            f"features to make a map of; name a layer (medsal.layers(model, image) lists them), "
            f"or use a method without one, such as 'gradient'"
        )
    _default[model] = name
    return name


def remembered_default(model: nn.Module) -> str | None:
    """The default layer found before, if the model still has it."""
    name = _default.get(model)
    return name if name in dict(model.named_modules()) else None


def list_layers(model: nn.Module, run: Callable[[], Any], image: Tensor) -> list[Layer]:
    """Every layer that a forward pass meets, in the order in which they end, the default marked."""
    last = LastSpatial(image)
    met: dict[str, tuple[nn.Module, Any]] = {}

    def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        met.pop(name, None)
        met[name] = (module, _shapes(output))
        if last.admits(name, module, inputs, output):
            last.went_on(output)

    layers = {name: module for name, module in model.named_modules() if name}
    with watching(layers, watch):
        last.ended(run())
    return [_described(name, module, shapes, last.name) for name, (module, shapes) in met.items()]


def _shapes(output: Any) -> Any:
    if isinstance(output, Tensor):
        return tuple(output.shape)
    return (
        [tuple(each.shape) for each in output if isinstance(each, Tensor)]
        if isinstance(output, tuple | list)
        else []
    )


def _described(name: str, module: nn.Module, shapes: Any, default: str | None) -> Layer:
    one = shapes if isinstance(shapes, tuple) else None
    parts: Sequence[tuple[int, ...]] = () if one is not None else shapes
    return Layer(name, type(module).__name__, one, tuple(parts), name == default)


def narrow(name: str, grid: tuple[int, ...], axes: tuple[int, ...], layers: list[Layer]) -> str:
    """What to tell of a layer with one cell on an axis, and the layers that have more."""
    wider = {
        layer.shape[2:]: layer.name
        for layer in layers
        if layer.shape
        and len(layer.shape) == len(axes) + 2
        and all(cells > 1 for cells in layer.shape[2:])
    }
    named = ", ".join(f"{layer!r} {shape}" for shape, layer in list(wider.items())[::-1][:3])
    return (
        f"layer {name!r} has the grid {grid} for the image {axes}: one cell on an axis says "
        f"nothing of where along it; give a larger image or a layer with more cells: "
        f"{named or 'there is none'}"
    )
