"""The visit: evaluation mode and frozen parameters inside, everything as before outside."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import chain, compress, islice
from operator import attrgetter, is_, not_
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.visits.holding import Stay, held
from medsal.probe.visits.inventory import Inventory, entries_of, inventory_of
from medsal.probe.visits.rows import alike, in_a_row, words_of


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside wrappers that share its parameters: `torch.compile`, `DataParallel`.

    Raises:
        TypeError: for what is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model as a torch.nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


@contextmanager
def quietly() -> Iterator[None]:
    """Ordinary tensors without a graph inside, whatever the caller's grad or inference mode is.

    The random number generator of the CPU is as before afterwards.
    """
    with _same_random(torch.device("cpu")), torch.inference_mode(False), torch.no_grad():
        yield


# Of hundreds of modules at once.
_compiled_call = attrgetter("_compiled_call_impl")
_hooks = attrgetter("_forward_hooks", "_forward_pre_hooks")
_stores = attrgetter("_parameters", "_buffers", "_modules")


@contextmanager
def visiting(model: nn.Module, known: Inventory | None = None) -> Iterator[Inventory]:
    """Evaluation mode and frozen parameters inside; every trace removed outside.

    Restores, also after an exception: the mode of each module, the flag of each parameter, buffers
    and tensors kept as attributes (the forward pass works on copies), submodules, and the state of
    the random number generators.

    Args:
        model: any module.
        known: what it is made of, where it has just been looked through.

    Yields:
        What the model is made of.

    Raises:
        ValueError: when a lazy module has not been run yet.
    """
    found = known or inventory_of(model)
    with ExitStack() as leaving:
        with torch.inference_mode(False), torch.no_grad():
            leaving.enter_context(held(found.owners, partial(_arrive, found)))
        for device in {torch.device("cpu"), *map(attrgetter("device"), found.parameters)}:
            leaving.enter_context(_same_random(device))
        if "_orig_mod" in found.names or any(map(_compiled_call, found.modules)):
            # Compiled parts show no layers and no activations.
            leaving.enter_context(held({"compiler": torch.compiler}, _force_eager))
        with torch.inference_mode(False), torch.enable_grad():
            yield found


def _arrive(found: Inventory, stay: Stay, fresh: Collection[int]) -> None:
    modules, parameters = found.modules, found.parameters
    if len(fresh) < len(found.owners):
        modules = [each for each in modules if id(each) in fresh]
        parameters = [each for each in parameters if id(each) in fresh]
    _hold(stay, "training", [each for each in modules if hasattr(each, "training")])
    inference = set(map(id, found.inference))
    ordinary = [e for e in parameters if id(e) not in inference] if inference else parameters
    _hold(stay, "requires_grad", ordinary)
    # Then the forward pass gets copies of what each module has.
    odd = bool(inference) or any(map(attrgetter("requires_grad"), found.buffers))
    plain = [False] * len(modules) if odd else _are_plain(modules)
    others = [*compress(modules, map(not_, plain))]
    for each in others:
        if isinstance(each, torch.jit.ScriptModule):
            stay.undo.append(_hold_script(each, stay))
    _hold_tensors(stay, [e for e in others if not isinstance(e, torch.jit.ScriptModule)])
    _hold_buffers(stay, [each._buffers for each in compress(modules, plain)])


def _hold(stay: Stay, name: str, owners: Sequence[Any]) -> None:
    """Make an attribute of all owners False."""
    current = attrgetter(name)
    before = [*map(current, owners)]

    def restore() -> None:
        # A forward pass may set modes and flags itself.
        for owner, value, now in zip(owners, before, map(current, owners), strict=True):
            if now is not value:
                setattr(owner, name, value)

    stay.undo.append(restore)
    for owner in compress(owners, before):
        # The attribute, not eval(): a network may override train() and do more there.
        setattr(owner, name, False)


# Kinds of torch's own modules, with how many attributes they have where none is a tensor. To look
# at each attribute of hundreds of modules takes longer than all else.
_plain: set[tuple[type, int]] = set()


def _are_plain(modules: Sequence[nn.Module]) -> list[bool]:
    """Of which modules a forward pass writes to nothing but their buffers: torch's own.

    None that has hooks, tensors of inference mode, or buffers with a gradient.
    """
    kinds = [*zip(map(type, modules), map(len, map(vars, modules)), strict=True)]
    unknown = {kind for kind in {*kinds} - _plain if _from_torch(kind[0])}
    for kind, module in zip(kinds, modules, strict=True) if unknown else ():
        if kind in unknown and not any(isinstance(each, Tensor) for each in vars(module).values()):
            _plain.add(kind)
    return [
        kind in _plain and not (after or before)
        for kind, (after, before) in zip(kinds, map(_hooks, modules), strict=True)
    ]


def _from_torch(kind: type) -> bool:
    return kind.__module__.startswith("torch.nn.modules.")


class _Noted:
    """What dictionaries hold, and how to put it back."""

    def __init__(self, stores: Sequence[dict[str, Any]]) -> None:
        self._stores = stores
        self.values, self._names = entries_of(stores)

    def put_back(self, concerns: Callable[[Any], bool] = lambda _: True) -> None:
        """Put back the entries that are others now."""
        now, names = entries_of(self._stores)
        if names == self._names and all(map(is_, now, self.values)):
            return
        entries = zip(self._names[0], self.values, strict=True)
        for store, count in zip(self._stores, self._names[1], strict=True):
            _put_back(store, dict(islice(entries, count)), concerns)


def _hold_buffers(stay: Stay, stores: Sequence[dict[str, Any]]) -> None:
    """Note what buffers hold, and write it back where the forward pass has changed it."""
    noted = _Noted(stores)
    buffers = [each for each in noted.values if each is not None]
    rows = [(tensors, in_a_row(tensors)) for tensors in alike(buffers)]

    def restore() -> None:
        noted.put_back()
        with torch.no_grad():
            for tensors, row in rows:
                if not torch.equal(words_of(in_a_row(tensors)), words_of(row)):
                    parts = torch.split(row, [each.numel() for each in tensors])
                    for each, part in zip(tensors, parts, strict=True):
                        each.copy_(part.view(each.shape))

    stay.undo.append(restore)


def _hold_tensors(stay: Stay, modules: Sequence[nn.Module]) -> None:
    """Let the forward pass write to copies, and forget what it adds.

    Tensors made in inference mode can't take part in a graph: ordinary copies can.
    """
    contents = [*map(vars, modules)]
    attributes = _Noted(contents)
    stores = _Noted([*chain.from_iterable(map(_stores, modules))])

    def restore() -> None:
        stores.put_back()
        attributes.put_back(_holds_tensors)

    stay.undo.append(restore)
    for module in modules if _any_tensor(stores.values) else ():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_inference():
                copy = nn.Parameter(stay.copy_of(parameter), requires_grad=False)
                module._parameters[name] = copy
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = stay.copy_of(buffer)
    for content in contents if _any_tensor(attributes.values) else ():
        for name, value in content.items():
            if isinstance(value, Tensor):
                content[name] = stay.copy_of(value)


def _any_tensor(values: Sequence[Any]) -> bool:
    return any(issubclass(kind, Tensor) for kind in set(map(type, values)))


def _hold_script(module: torch.jit.ScriptModule, stay: Stay) -> Callable[[], None]:
    """The buffers of TorchScript are reached by name alone."""
    before = dict(module.named_buffers(recurse=False))
    for name, buffer in before.items():
        setattr(module, name, stay.copy_of(buffer))

    def restore() -> None:
        for name, buffer in before.items():
            setattr(module, name, buffer)

    return restore


def _force_eager(stay: Stay, fresh: Collection[str]) -> None:
    if fresh:
        stance: Any = torch.compiler.set_stance("force_eager")
        stay.undo.append(partial(stance.__exit__, None, None, None))


def _same_random(device: torch.device) -> AbstractContextManager[None]:
    """The state of a device's random numbers is the same afterwards."""
    source: Any = torch if device.type == "cpu" else torch.get_device_module(device)
    where = () if device.type in ("cpu", "mps") else (device,)

    def take(stay: Stay, fresh: Collection[str]) -> None:
        if fresh and hasattr(source, "get_rng_state"):
            stay.undo.append(partial(source.set_rng_state, source.get_rng_state(*where), *where))

    return held({f"random {device}": source}, take)


def _put_back(
    store: dict[str, Any], before: dict[str, Any], concerns: Callable[[Any], bool] = lambda _: True
) -> None:
    if (
        len(store) == len(before)
        and all(map(is_, store, before))
        and all(map(is_, store.values(), before.values()))
    ):
        return
    # Entry by entry: someone else's forward pass may be reading.
    for name in [name for name in store if name not in before and concerns(store[name])]:
        del store[name]
    for name, value in before.items():
        now = store.get(name)
        if now is not value and (concerns(value) or concerns(now)):
            store[name] = value


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    parts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(each, Tensor) for each in parts)
