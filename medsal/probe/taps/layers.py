"""Layers: what there is, which one is meant, what it puts out."""

import difflib
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from medsal.probe.taps.parts import Path, parts_of, split_name
from medsal.probe.visits.inventory import modules_of

Replace = Callable[[str, nn.Module, tuple[Any, ...], Any], Any]
"""Called as a layer ends, with its name, module, inputs and output; returns what goes on in the
output's place, or None."""


@dataclass(frozen=True)
class Layer:
    """One layer as a forward pass met it.

    Attributes:
        name: its dotted name, as `layer=` takes it.
        kind: the class of the module.
        shape: the shape of its output, ``(n, k, *f)``; of a list, tuple or dict, None.
        parts: the tensors of a list, tuple or dict: what to write behind the name, ``"[1][0]"``,
            and the shape.
        default: True for the one that ``layer=None`` means.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parts: tuple[tuple[str, tuple[int, ...]], ...] = ()
    default: bool = False


class Sightings:
    """What a forward pass shows of its layers: their shapes, and on which axis channels lie."""

    def __init__(self, image: Tensor) -> None:
        self._ndim = image.ndim
        self._met: dict[str, tuple[str, Any]] = {}
        # The features of the last layer on a grid that works on the last axis; None: on axis 1.
        self._features: int | None = None
        # The channels and the grid of the last convolution, where that is the last such layer.
        self._conv: tuple[int, tuple[int, ...]] | None = None
        # Whether the last layer with weights worked on tokens (n, tokens, k).
        self._tokens = False
        # By id: tensors of which it is known whether channels lie on the last axis.
        self._told: dict[int, tuple[weakref.ref[Tensor], bool]] = {}

    def note(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Put down what a layer put out as it ended."""
        self._met.pop(name, None)
        self._met[name] = (type(module).__name__, _shapes(output))
        features = _last_axis(module)
        if features or isinstance(module, _ConvNd):
            for each in (*inputs, output):
                self._tell(each, bool(features))
        elif isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
            # What is applied to each number, and a block whose last layer works as its input lies.
            keeps = type(module).__module__.startswith("torch.nn.modules") or any(
                True for _ in module.parameters()
            )
            before = self._said(inputs[0]) if inputs[0].shape == output.shape else None
            if keeps and before is not None and before == (self._features is not None):
                self._tell(output, before)
        if isinstance(output, Tensor) and (features or isinstance(module, _ConvNd)):
            self._tokens = output.ndim == 3 < self._ndim
            if output.ndim == self._ndim:
                self._features = features
                self._conv = None if features else (output.shape[1], tuple(output.shape[2:]))

    def _tell(self, tensor: Any, last: bool) -> None:
        if isinstance(tensor, Tensor) and tensor.ndim == self._ndim:
            self._told[id(tensor)] = (weakref.ref(tensor), last)

    def _said(self, tensor: Tensor) -> bool | None:
        """Whether a tensor's channels lie on the last axis, where a layer has told."""
        known = self._told.get(id(tensor))
        return known[1] if known and known[0]() is tensor else None

    def attention(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> bool:
        """Whether a tensor that has just been put out is no grid, but weights among tokens.

        Of a picture, ``(n, heads, tokens, tokens)`` has the axes of features: known by layers
        without weights that work on it between those on tokens. So have the queries, keys and
        values that such a layer splits tokens into: known by more cells than there are tokens.
        """
        if (
            not self._tokens
            or not isinstance(output, Tensor)
            or output.ndim != self._ndim
            or any(True for _ in module.parameters())
        ):
            return False
        tensors = [each for each in inputs if isinstance(each, Tensor)]
        if any(each.ndim == self._ndim for each in tensors):
            return True
        cells = {prod(output.shape[2:]), prod(output.shape[1:-1])}
        return any(each.ndim == 3 and not cells & _cells(each) for each in tensors)

    def channels_last(self, name: str, module: nn.Module, tensor: Tensor) -> bool:
        """Whether a tensor that has just been put out is ``(n, *f, k)``, as in transformers.

        Raises:
            ValueError: when that can't be told from its shape.
        """
        if tensor.ndim != self._ndim:
            return False
        if self._features is None:
            # A convolution's output whose axes were moved afterwards.
            channels, grid = self._conv or (0, ())
            shape = tuple(tensor.shape)
            return shape[1:] == (*grid, channels) != (channels, *grid)
        if _last_axis(module):
            return True
        first, last = (tensor.shape[axis] == self._features for axis in (1, -1))
        said = self._said(tensor)
        if first and last and said is not None:
            return said
        if first and last:
            raise ValueError(
                f"layer {name!r} puts out {tuple(tensor.shape)}, where channels may lie on axis 1 "
                f"or on the last one; choose another layer: medsal.layers(model, image)"
            )
        return last

    def layers(self, default: str | None = None) -> list[Layer]:
        """The layers, in the order in which they ended."""
        return [
            Layer(name, kind, shape, parts, name == default)
            for name, (kind, (shape, parts)) in self._met.items()
        ]


def _cells(tokens: Tensor) -> set[int]:
    """How many cells tokens may have: one may stand for the class."""
    return {tokens.shape[1], tokens.shape[1] - 1}


def _last_axis(module: nn.Module) -> int | None:
    """How many features a layer that works on the last axis puts out; None for any other."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        return module.normalized_shape[0]
    return None


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

    # A convolution has three axes at most.
    modules = modules_of(model) if image.ndim <= 4 else []
    wider = [
        (name, module)
        for name, module in modules
        if isinstance(module, _ConvNd) and len(module.kernel_size) == image.ndim - 1
    ]
    with watching(wider, watch):
        yield


def named_layer(model: nn.Module, name: str) -> tuple[nn.Module, Path]:
    """The module of a dotted name, and which part of its output is meant.

    ``"encoder[2]"`` means the third tensor of a list or tuple, ``"encoder[low]"`` that of a key.

    Raises:
        LookupError: when there is none of that name; near ones are given.
        TypeError: when the model is TorchScript, whose layers can't be tapped.
    """
    reject_script(model)
    whole, path = split_name(name)
    found: nn.Module | None = model
    for key in whole.split("."):
        found = None if found is None else found._modules.get(key)
    if found is not None:
        reject_script(found)
        return found, path
    # A module may be registered under several names.
    layers = [key for key, _ in model.named_modules(remove_duplicate=False) if key]
    near = difflib.get_close_matches(name, layers, n=3, cutoff=0.4) or layers[-3:]
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


def _shapes(
    output: Any,
) -> tuple[tuple[int, ...] | None, tuple[tuple[str, tuple[int, ...]], ...]]:
    """The shape of one tensor, or None and the parts."""
    return (tuple(output.shape), ()) if isinstance(output, Tensor) else (None, (*parts_of(output),))
