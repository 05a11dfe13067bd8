"""Layers: what there is, which one is meant, what it puts out."""

import difflib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Replace = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]
"""Called as a layer ends, with its name, module, inputs and output; returns what goes on in the
output's place, or None."""

_PART = re.compile(r"(?P<name>.*?)\[(?P<part>\d+)\]")


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


class Sightings:
    """What a forward pass shows of its layers: their shapes, and on which axis channels lie."""

    def __init__(self, image: Tensor) -> None:
        self._ndim = image.ndim
        self._met: dict[str, tuple[str, Any]] = {}
        # The features of the last layer on a grid that works on the last axis; None: on axis 1.
        self._features: int | None = None
        # Whether the last layer with weights worked on tokens (n, tokens, k).
        self._tokens = False

    def note(self, name: str, module: nn.Module, output: Any) -> None:
        """Put down what a layer put out as it ended."""
        self._met.pop(name, None)
        self._met[name] = (type(module).__name__, _shapes(output))
        features = _last_axis(module)
        if isinstance(output, Tensor) and (features or isinstance(module, _ConvNd)):
            self._tokens = output.ndim == 3 < self._ndim
            self._features = features if output.ndim == self._ndim else self._features

    def attention(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> bool:
        """Whether a tensor that has just been put out is no grid, but weights among tokens.

        Of a picture, ``(n, heads, tokens, tokens)`` has the axes of features: known by layers
        without weights that work on it between those on tokens.
        """
        return (
            self._tokens
            and isinstance(output, Tensor)
            and output.ndim == self._ndim
            and not any(True for _ in module.parameters())
            and any(isinstance(each, Tensor) and each.ndim == self._ndim for each in inputs)
        )

    def channels_last(self, name: str, tensor: Tensor) -> bool:
        """Whether a tensor that has just been put out is ``(n, *f, k)``, as in transformers.

        Raises:
            ValueError: when that can't be told from its shape.
        """
        if self._features is None or tensor.ndim != self._ndim:
            return False
        first, last = (tensor.shape[axis] == self._features for axis in (1, -1))
        if first and last:
            raise ValueError(
                f"layer {name!r} puts out {tuple(tensor.shape)}, where channels may lie on axis 1 "
                f"or on the last one; choose another layer: medsal.layers(model, image)"
            )
        return last

    def layers(self, default: str | None = None) -> list[Layer]:
        """The layers, in the order in which they ended."""
        return [
            Layer(name, kind, one(shapes), () if one(shapes) else tuple(shapes), name == default)
            for name, (kind, shapes) in self._met.items()
        ]


def _last_axis(module: nn.Module) -> int | None:
    """How many features a layer that works on the last axis puts out; None for any other."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        return module.normalized_shape[0]
    return None


def one(shapes: Any) -> tuple[int, ...] | None:
    """The shape of a single tensor, where it is one."""
    return shapes if isinstance(shapes, tuple) else None


@contextmanager
def watching(modules: Sequence[tuple[str, nn.Module]], watch: Replace) -> Iterator[None]:
    """Call ``watch`` as each of these modules ends, in this thread alone."""
    thread = threading.get_ident()

    def hook_of(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            # Hooks sit on the shared model: another thread's forward pass is none of our business.
            return watch(name, module, inputs, output) if threading.get_ident() == thread else None

        return hook

    with ExitStack() as handles:
        for name, module in modules:
            if not isinstance(module, torch.jit.ScriptModule):  # it takes no hooks
                handles.callback(module.register_forward_hook(hook_of(name)).remove)
        yield


@contextmanager
def batched(model: nn.Module, image: Tensor) -> Iterator[None]:
    """Refuse an image that a convolution would take for one without an axis of samples.

    Raises:
        ValueError: when that happens.
    """

    def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim == image.ndim:
            axes = image.ndim - 1
            raise ValueError(
                f"expected an image (samples, channels, {axes} spatial axes), as layer {name!r} "
                f"({type(module).__name__}) takes it, got the shape {tuple(image.shape)}; "
                f"a single scan needs image[None]"
            )

    wider = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, _ConvNd) and len(module.kernel_size) == image.ndim - 1
    ]
    with watching(wider, watch):
        yield


def named_layer(model: nn.Module, name: str) -> tuple[nn.Module, int | None]:
    """The module of a dotted name, and which part of its output is meant.

    ``"encoder[2]"`` means the third tensor of a list or tuple.

    Raises:
        LookupError: when there is none of that name; near ones are given.
        TypeError: when the model is TorchScript, whose layers can't be tapped.
    """
    reject_script(model)
    # A module may be registered under several names.
    layers = {key: module for key, module in model.named_modules(remove_duplicate=False) if key}
    if name in layers:
        reject_script(layers[name])
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
        TypeError: when the output is no tensor of floats, and no part (or no such part) is named.
    """
    tensors: list[Any] = list(output) if isinstance(output, tuple | list) else []
    chosen = tensors[part] if part is not None and part < len(tensors) else None
    chosen = output if part is None else chosen
    if isinstance(chosen, Tensor):
        if not chosen.is_floating_point():
            raise TypeError(f"expected a layer of floats, got {chosen.dtype} from layer {name!r}")
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


def _shapes(output: Any) -> Any:
    if isinstance(output, Tensor):
        return tuple(output.shape)
    return (
        [tuple(each.shape) for each in output if isinstance(each, Tensor)]
        if isinstance(output, tuple | list)
        else []
    )


def narrow(name: str, grid: tuple[int, ...], axes: tuple[int, ...], layers: list[Layer]) -> str:
    """What to tell of a layer with one cell on an axis, and the layers that have more."""
    wider = {
        layer.shape[2:]: layer.name
        for layer in layers
        if layer.shape
        and len(layer.shape) == len(axes) + 2
        and all(
            cells > 1 or cells == size for cells, size in zip(layer.shape[2:], axes, strict=True)
        )
    }
    named = ", ".join(f"{layer!r} {shape}" for shape, layer in list(wider.items())[::-1][:3])
    return (
        f"layer {name!r} has the grid {grid} for the image {axes}: one cell on an axis says "
        f"nothing of where along it; give a larger image or a layer with more cells: "
        f"{named or 'there is none'}"
    )
