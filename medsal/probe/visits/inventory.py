"""What a model is made of, told quickly: each call looks, as models change between calls."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, compress
from operator import attrgetter, methodcaller
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)
_children, _parameters, _buffers = map(attrgetter, ("_modules", "_parameters", "_buffers"))
_names, _values = methodcaller("keys"), methodcaller("values")


@dataclass(frozen=True, eq=False)
class Inventory:
    """What a model is made of.

    Attributes:
        modules: each once, the model itself first.
        parameters: of all of them; one that is shared comes more than once.
        buffers: likewise.
        names: under which name each module's children are registered.
        tree: what is the same when the modules are, under the same names.
        keys: what is the same when the names of parameters and buffers are.
    """

    modules: Sequence[nn.Module]
    parameters: Sequence[nn.Parameter]
    buffers: Sequence[Tensor]
    names: Sequence[str]
    tree: Any
    keys: Any

    @cached_property
    def state(self) -> list[Tensor]:
        """All parameters and buffers."""
        return [*self.parameters, *self.buffers]

    @cached_property
    def inference(self) -> list[Tensor]:
        """Those of them that were made in inference mode."""
        return [*compress(self.state, map(Tensor.is_inference, self.state))]

    @cached_property
    def owners(self) -> dict[int, object]:
        """The modules and parameters, by id."""
        owners = [*self.modules, *self.parameters]
        return dict(zip(map(id, owners), owners, strict=True))


def inventory_of(model: nn.Module) -> Inventory:
    """Look through a model.

    Raises:
        ValueError: when a lazy module has not been run yet.
    """
    # Hundreds of modules: each step is one for all of a level, and makes no object for each.
    modules, level = {id(model): model}, [model]
    names: list[str] = []
    tree: list[Any] = []
    while level:
        children, (keys, counts) = entries_of([*map(_children, level)])
        names += keys
        tree += map(id, children)
        tree += counts
        found = {id(child): child for child in children if child is not None}
        level = [child for key, child in found.items() if key not in modules]
        modules |= found
    everything = [*modules.values()]
    held, parameter_keys = entries_of([*map(_parameters, everything)])
    parameters = [each for each in held if each is not None]
    held, buffer_keys = entries_of([*map(_buffers, everything)])
    buffers = [each for each in held if each is not None]
    if any(issubclass(kind, _UNINITIALIZED) for kind in set(map(type, chain(parameters, buffers)))):
        _reject_lazy(model)
    held_as = (parameter_keys, buffer_keys)
    return Inventory(everything, parameters, buffers, names, [*names, *tree], held_as)


def modules_of(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Each module with its dotted name, as `named_modules` tells them, many times as quick."""
    found: dict[int, tuple[str, nn.Module]] = {}

    def visit(name: str, module: nn.Module) -> None:
        if id(module) in found:
            return
        found[id(module)] = (name, module)
        for key, child in module._modules.items():
            if child is not None:
                visit(f"{name}.{key}" if name else key, child)

    visit("", model)
    return list(found.values())


def entries_of(stores: Sequence[Any]) -> tuple[list[Any], tuple[list[str], list[int]]]:
    """What stores hold, None too, and under which names: those of each, and how many."""
    filled = [*filter(len, stores)]
    names: list[str] = [*chain.from_iterable(map(_names, filled))]
    values: list[Any] = [*chain.from_iterable(map(_values, filled))]
    if len(names) != len(values):
        return entries_of(stores)  # another thread has written in between
    return values, (names, [*map(len, stores)])


def _reject_lazy(model: nn.Module) -> None:
    for name, module in modules_of(model):
        state = (*module._parameters.values(), *module._buffers.values())
        if any(isinstance(each, _UNINITIALIZED) for each in state):
            raise ValueError(
                f"expected a model that has all its parameters, got a lazy one in {name!r}; "
                f"run {type(model).__name__} once on an image of the right shape"
            )
