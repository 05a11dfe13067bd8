"""What a model is made of, told quickly: each call looks, as models change between calls."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from medsal.probe.layers import modules_of

_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)


@dataclass(frozen=True, eq=False)
class Inventory:
    """What a model is made of.

    Attributes:
        modules: each once, the model itself first.
        parameters: of all of them; one that is shared comes more than once.
        buffers: likewise.
        tree: what is the same when the modules are, under the same names.
        keys: what is the same when the names of parameters and buffers are.
    """

    modules: Sequence[nn.Module]
    parameters: Sequence[nn.Parameter]
    buffers: Sequence[Tensor]
    tree: Any
    keys: Any

    @cached_property
    def state(self) -> list[Tensor]:
        """All parameters and buffers."""
        return [*self.parameters, *self.buffers]

    @cached_property
    def inference(self) -> list[Tensor]:
        """Those of them that were made in inference mode."""
        return [each for each in self.state if each.is_inference()]

    @cached_property
    def owners(self) -> dict[int, object]:
        """The modules and parameters, by id."""
        return {id(each): each for each in chain[Any](self.modules, self.parameters)}


def inventory_of(model: nn.Module) -> Inventory:
    """Look through a model.

    Raises:
        ValueError: when a lazy module has not been run yet.
    """
    # Hundreds of modules: comprehensions, and no work for each. What another thread may write
    # meanwhile is read in one go.
    modules, level = {id(model): model}, [model]
    tree: list[Any] = []
    while level:
        parents = [each for each in level if each._modules]
        entries = [*chain.from_iterable([each._modules.items() for each in parents])]
        tree += [(name, id(child)) for name, child in entries]
        tree += [len(each._modules) for each in parents]
        found = {id(child): child for _, child in entries if child is not None}
        level = [child for key, child in found.items() if key not in modules]
        modules |= found
    all_modules = [*modules.values()]
    held, parameter_keys = entries_of([each._parameters for each in all_modules])
    parameters = [each for each in held if each is not None]
    held, buffer_keys = entries_of([each._buffers for each in all_modules])
    buffers = [each for each in held if each is not None]
    kinds = set(map(type, chain[Any](parameters, buffers)))
    if any(issubclass(kind, _UNINITIALIZED) for kind in kinds):
        _reject_lazy(model)
    return Inventory(all_modules, parameters, buffers, tree, (parameter_keys, buffer_keys))


def entries_of(stores: Sequence[Any]) -> tuple[list[Any], Any]:
    """What stores hold, None too, and under which names: those of each, and how many."""
    entries = [*chain.from_iterable([each.items() for each in stores if len(each)])]
    return [each for _, each in entries], (
        [key for key, _ in entries],
        [len(each) for each in stores],
    )


def _reject_lazy(model: nn.Module) -> None:
    for name, module in modules_of(model):
        state = (*module._parameters.values(), *module._buffers.values())
        if any(isinstance(each, _UNINITIALIZED) for each in state):
            raise ValueError(
                f"expected a model that has all its parameters, got a lazy one in {name!r}; "
                f"run {type(model).__name__} once on an image of the right shape"
            )


def alike(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Tensors in groups of one type on one device: single numbers, rows, and others."""
    kinds: dict[Any, list[Tensor]] = {}
    for each in tensors:
        kinds.setdefault((each.dtype, each.device, min(each.ndim, 2)), []).append(each)
    return [*kinds.values()]


def in_a_row(tensors: Sequence[Tensor]) -> Tensor:
    """What a group of tensors holds: hundreds of small copies take much longer."""
    axes = tensors[0].ndim
    if axes == 0:
        return torch.stack([*tensors])
    return torch.cat([*tensors] if axes == 1 else [each.reshape(-1) for each in tensors])
