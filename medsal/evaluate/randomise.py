"""Random weights in place of learned ones: in a copy, layer by layer; the model itself stays."""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medsal.evaluate.arguments import check_choice
from medsal.probe import Probe, quietly
from medsal.types import Image

How = Literal["reset", "permute", "normal"]
HOWS = ("reset", "permute", "normal")
# Networks are often made after `manual_seed(0)`: the same seed would draw the same weights again.
_APART = 1_836_311_903


def weighted_layers(probe: Probe, image: Image) -> tuple[str, ...]:
    """The layers with weights of their own, from the output to the input.

    In the order in which a forward pass ends them, backwards. A module whose weights are used
    without its being called (the projection inside an attention) stands where the module around it
    does.
    """
    met = {layer.name: i for i, layer in enumerate(probe.layers(image))}
    owners = [
        name
        for name, module in probe.model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    owners.sort(key=lambda name: _place(name, met))
    return tuple(owners[::-1])


def _place(name: str, met: dict[str, int]) -> int:
    """When a module ended, or the nearest one around it that was called."""
    while name and name not in met:
        name = name.rpartition(".")[0]
    return met.get(name, len(met))


def grouped(layers: Sequence[str], groups: int | None) -> list[tuple[str, ...]]:
    """Neighbouring layers in groups of nearly one size; None = each layer for itself."""
    count = len(layers) if groups is None else min(groups, len(layers))
    bounds = [round(i * len(layers) / count) for i in range(count + 1)]
    return [tuple(layers[a:b]) for a, b in pairwise(bounds)]


def copied(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the model.

    Raises:
        TypeError: when the model can't be copied.
    """
    try:
        with quietly():
            return copy.deepcopy(model)
    except Exception as error:
        raise TypeError(
            f"expected a model that copy.deepcopy can copy, for its weights to be randomised "
            f"elsewhere, got {type(model).__name__}: {error}"
        ) from error


def randomise(model: nn.Module, layers: Sequence[str], how: How = "reset", seed: int = 0) -> None:
    """Put random weights into these layers of a model, in place: for copies.

    Args:
        model: a copy of the model that is examined.
        layers: dotted names; of each, the weights of its own are changed, not those of modules
            inside it.
        how: ``"reset"``, by the layer's own ``reset_parameters``, as when it was made (batch
            normalisation forgets its running statistics too); where a layer has none, as
            ``"normal"``. ``"permute"``, the numbers of each weight tensor in random order.
            ``"normal"``, normal numbers of each tensor's mean and standard deviation; a tensor of
            equal numbers stays as it is.
        seed: of what is drawn, on the host: the same weights on every device. The global random
            state is not touched.

    Raises:
        LookupError: when there is no such layer.
        ValueError: when ``how`` is none of these.
    """
    check_choice("how", how, HOWS)
    modules = dict(model.named_modules())
    apart = (seed + _APART) % 2**32
    generator = torch.Generator().manual_seed(apart)
    with quietly(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(apart)
        for name in layers:
            if name not in modules:
                raise LookupError(f"{type(model).__name__} has no layer {name!r}")
            reset: Any = getattr(modules[name], "reset_parameters", None)
            if how == "reset" and callable(reset):
                _on_host(modules[name], reset)
            else:
                for parameter in modules[name].parameters(recurse=False):
                    _redraw(parameter.data, how, generator)


def _on_host(module: nn.Module, reset: Any) -> None:
    """Reset a module where its random numbers are the host's, and bring it back."""
    device = next(module.parameters(recurse=False)).device
    module.to("cpu")
    reset()
    module.to(device)


def _redraw(weights: Tensor, how: How, generator: torch.Generator) -> None:
    if how == "permute":
        order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
        weights.copy_(weights.flatten()[order].reshape(weights.shape))
        return
    wide = weights.double().cpu()
    drawn = torch.randn(weights.shape, generator=generator, dtype=torch.float64)
    weights.copy_(wide.mean() + wide.std(correction=0) * drawn)


def weights_of(model: nn.Module, layers: Sequence[str]) -> dict[str, Tensor]:
    """Copies of all that these layers hold, to be put back by `put_back`."""
    modules = dict(model.named_modules())
    return {
        f"{name}.{key}".lstrip("."): tensor.detach().clone()
        for name in layers
        for key, tensor in _held(modules[name]).items()
    }


def put_back(model: nn.Module, layers: Sequence[str], held: dict[str, Tensor]) -> None:
    """Put back what `weights_of` copied."""
    modules = dict(model.named_modules())
    with quietly():
        for name in layers:
            for key, tensor in _held(modules[name]).items():
                tensor.data.copy_(held[f"{name}.{key}".lstrip(".")])


def _held(module: nn.Module) -> dict[str, Tensor]:
    parameters = module.named_parameters(recurse=False)
    return {**dict(parameters), **dict(module.named_buffers(recurse=False))}
