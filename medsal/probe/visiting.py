"""The visit: evaluation mode and frozen parameters inside, everything as before outside."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import compress
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.holding import Stay, held
from medsal.probe.inventory import Inventory, alike, entries_of, in_a_row, inventory_of


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
        for device in {torch.device("cpu")}.union(each.device for each in found.parameters):
            leaving.enter_context(_same_random(device))
        if any(map(_is_compiled, found.modules)):
            # Compiled parts show no layers and no activations.
            leaving.enter_context(held({"compiler": torch.compiler}, _force_eager))
        with torch.inference_mode(False), torch.enable_grad():
            yield found


def _is_compiled(module: nn.Module) -> bool:
    return "_orig_mod" in module._modules or module._compiled_call_impl is not None


def _arrive(found: Inventory, stay: Stay, fresh: Collection[int]) -> None:
    modules, parameters = found.modules, found.parameters
    if len(fresh) < len(found.owners):
        modules = [each for each in modules if id(each) in fresh]
        parameters = [each for each in parameters if id(each) in fresh]
    _hold(stay, "training", [each for each in modules if hasattr(each, "training")])
    inference = set(map(id, found.inference))
    _hold(stay, "requires_grad", [each for each in parameters if id(each) not in inference])
    # Then the forward pass gets copies of what each module has.
    odd = bool(inference) or any(each.requires_grad for each in found.buffers)
    others = [each for each in modules if odd or not _is_plain(each)]
    for module in others:
        if isinstance(module, torch.jit.ScriptModule):
            stay.undo.append(_hold_script(module, stay))
        else:
            stay.undo.append(_hold_tensors(module, stay))
    apart = set(map(id, others))
    _hold_buffers(stay, [m for m in modules if m._buffers and id(m) not in apart])


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


def _is_plain(module: nn.Module) -> bool:
    """Whether a forward pass writes to nothing of a module but its buffers: one of torch's own.

    None that has hooks, tensors of inference mode, or buffers with a gradient.
    """
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    kind = (type(module), len(module.__dict__))
    if kind not in _plain:
        if not kind[0].__module__.startswith("torch.nn.modules."):
            return False
        if any(isinstance(each, Tensor) for each in vars(module).values()):
            return False
        _plain.add(kind)
    return True


def _hold_buffers(stay: Stay, modules: Sequence[nn.Module]) -> None:
    """Note what buffers hold, and write it back where the forward pass has changed it."""
    stores = [each._buffers for each in modules]
    values, names = entries_of(stores)
    before = [dict(each) for each in stores]
    rows = [(tensors, in_a_row(tensors)) for tensors in alike(e for e in values if e is not None)]

    def restore() -> None:
        now, named = entries_of(stores)
        if named != names or not all(map(is_, now, values)):
            for store, buffers in zip(stores, before, strict=True):
                _put_back(store, buffers)
        with torch.no_grad():
            for tensors, row in rows:
                if not torch.equal(in_a_row(tensors).view(torch.uint8), row.view(torch.uint8)):
                    parts = torch.split(row, [each.numel() for each in tensors])
                    for each, part in zip(tensors, parts, strict=True):
                        each.copy_(part.view(each.shape))

    stay.undo.append(restore)


def _hold_tensors(module: nn.Module, stay: Stay) -> Callable[[], None]:
    """Let the forward pass write to copies, and forget what it adds.

    Tensors made in inference mode can't take part in a graph: ordinary copies can.
    """
    stores: list[dict[str, Any]] = [module._parameters, module._buffers, module._modules]
    before = [dict(store) for store in stores]
    attributes = dict(vars(module))
    for name, parameter in module._parameters.items():
        if parameter is not None and parameter.is_inference():
            module._parameters[name] = nn.Parameter(stay.copy_of(parameter), requires_grad=False)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = stay.copy_of(buffer)
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            vars(module)[name] = stay.copy_of(value)

    def restore() -> None:
        for store, entries in zip(stores, before, strict=True):
            _put_back(store, entries)
        _put_back(vars(module), attributes, _holds_tensors)

    return restore


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
