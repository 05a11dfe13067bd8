"""The visit: evaluation mode and frozen parameters inside, everything as before outside.

Several threads may visit one model at once. Each thing that a visit changes is therefore held once:
the first visitor notes and changes it, the last one puts it back.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from medsal.probe.layers import modules_of


class _Attribute:
    """An attribute of many owners that is False for the time of a visit.

    Args:
        write: sets it for an owner.
        name: of the attribute.
    """

    def __init__(self, name: str, write: Callable[[Any, bool], Any]) -> None:
        self._name, self._write = name, write
        # By id. Whoever holds an owner keeps it, so that its id stays its own.
        self._before: dict[int, bool] = {}
        self._visits: dict[int, int] = {}

    def hold(self, owners: Sequence[Any]) -> None:
        before, visits, name = self._before, self._visits, self._name
        for owner in owners:
            key = id(owner)
            if key not in before:
                before[key] = getattr(owner, name)
                if before[key]:
                    self._write(owner, False)
            visits[key] = visits.get(key, 0) + 1

    def release(self, owners: Sequence[Any]) -> None:
        before, visits, name = self._before, self._visits, self._name
        for owner in owners:
            key = id(owner)
            visits[key] -= 1
            if not visits[key]:
                del visits[key]
                value = before.pop(key)
                # A forward pass may set modes and flags itself.
                if getattr(owner, name) != value:
                    self._write(owner, value)


class _Buffers:
    """The buffers of many modules of torch's own: the forward pass may write to copies of them."""

    def __init__(self) -> None:
        # By id, as above.
        self._before: dict[int, dict[str, Tensor | None]] = {}
        self._visits: dict[int, int] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._before

    def hold(self, owners: Sequence[nn.Module]) -> None:
        copies: dict[int, Tensor] = {}
        for owner in owners:
            key = id(owner)
            if key not in self._before:
                buffers = owner._buffers
                self._before[key] = dict(buffers)
                for name, buffer in self._before[key].items():
                    if buffer is not None:
                        buffers[name] = _copy(buffer, copies)
            self._visits[key] = self._visits.get(key, 0) + 1

    def release(self, owners: Sequence[nn.Module]) -> None:
        for owner in owners:
            key = id(owner)
            self._visits[key] -= 1
            if not self._visits[key]:
                del self._visits[key]
                before = self._before.pop(key)
                for name in owner._buffers.keys() - before.keys():
                    del owner._buffers[name]
                # Entry by entry: someone else's forward pass may be reading.
                owner._buffers.update(before)


@dataclass
class _Held:
    """Another thing that visits changed, how to put it back, and by how many it is held."""

    owner: object
    restore: Callable[[], Any]
    visits: int = 0


# The attribute, not eval(): a network may override train() and do more there.
_modes = _Attribute("training", lambda module, mode: setattr(module, "training", mode))
_flags = _Attribute("requires_grad", lambda parameter, flag: parameter.requires_grad_(flag))
_buffers = _Buffers()
_held: dict[tuple[int, str], _Held] = {}
_NO_TENSORS = {bool, int, float, str, tuple, list, dict, OrderedDict, set, type(None)}
_lock = threading.RLock()


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside wrappers that share its parameters: `torch.compile`, `DataParallel`."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


@contextmanager
def quietly() -> Iterator[None]:
    """Ordinary tensors without a graph inside, whatever the caller's grad or inference mode is.

    The random number generator of the CPU is as before afterwards.
    """
    with ExitStack() as leaving:
        _hold_random(leaving, torch.device("cpu"))
        with torch.inference_mode(False), torch.no_grad():
            yield


@contextmanager
def visiting(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; every trace removed outside.

    Restores, also after an exception: the mode of each module, the flag of each parameter, buffers
    and tensors kept as attributes (the forward pass works on copies), submodules, and the state of
    the random number generators.

    Raises:
        ValueError: when a lazy module has not been run yet.
    """
    with ExitStack() as leaving:
        with torch.inference_mode(False), torch.no_grad():
            _arrive(model, leaving)
        with torch.inference_mode(False), torch.enable_grad():
            yield


def _arrive(model: nn.Module, leaving: ExitStack) -> None:
    modules = [module for _, module in modules_of(model)]
    parameters = list(_parameters(modules).values())
    _reject_lazy(model, parameters)
    # Two modules may share a buffer: they share its copy too.
    copies: dict[int, Tensor] = {}
    with _lock:
        # Frozen TorchScript has no modes.
        _hold_all(leaving, _modes, [each for each in modules if hasattr(each, "training")])
        _hold_all(leaving, _flags, [each for each in parameters if not each.is_inference()])
        simple = {id(each) for each in modules if _is_held_simply(each)}
        for module in modules:
            if id(module) not in simple:
                script = isinstance(module, torch.jit.ScriptModule)
                hold: Any = _hold_script if script else _hold_tensors
                _hold(leaving, module, "tensors", partial(hold, module, copies))
        _hold_all(leaving, _buffers, [m for m in modules if m._buffers and id(m) in simple])
    for device in {torch.device("cpu"), *(each.device for each in parameters)}:
        _hold_random(leaving, device)
    if any("_orig_mod" in m._modules or vars(m).get("_compiled_call_impl") for m in modules):
        # Compiled parts show no layers and no activations.
        _hold(leaving, torch.compiler, "stance", _hold_stance)


def _parameters(modules: Sequence[nn.Module]) -> dict[int, nn.Parameter]:
    """Each parameter once, by its id."""
    return {
        id(each): each
        for module in modules
        for each in module._parameters.values()
        if each is not None
    }


def _is_held_simply(module: nn.Module) -> bool:
    """Whether only the buffers are held: as another visit holds the module, else as it needs."""
    if (id(module), "tensors") in _held:
        return False
    return id(module) in _buffers or _is_simple(module)


def _is_simple(module: nn.Module) -> bool:
    """Whether a forward pass writes to nothing of a module but its buffers: one of torch's own."""
    if not type(module).__module__.startswith("torch.nn.modules."):
        return False
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    for each in module._parameters.values():
        if each is not None and each.is_inference():
            return False
    attributes = vars(module).values()
    if _NO_TENSORS.issuperset(map(type, attributes)):  # quick, and nearly always so
        return True
    return not any(isinstance(each, Tensor) for each in attributes)


def _reject_lazy(model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    if any(map(is_lazy, parameters)):
        name = next(name for name, each in model.named_parameters() if is_lazy(each))
        raise ValueError(
            f"expected a model that has all its parameters, got a lazy one without {name!r}; "
            f"run {type(model).__name__} once on an image of the right shape"
        )


def _hold_all(leaving: ExitStack, aspect: Any, owners: Sequence[Any]) -> None:
    with _lock:
        aspect.hold(owners)
        leaving.callback(_release_all, aspect, owners)


def _release_all(aspect: Any, owners: Sequence[Any]) -> None:
    with _lock:
        aspect.release(owners)


def _hold(
    leaving: ExitStack, owner: object, aspect: str, take: Callable[[], Callable[[], Any]]
) -> None:
    key = (id(owner), aspect)
    with _lock:
        if key not in _held:
            # The owner is kept, so that its id stays its own for the time of the visit.
            _held[key] = _Held(owner, take())
        _held[key].visits += 1
        leaving.callback(_release, key)


def _release(key: tuple[int, str]) -> None:
    with _lock:
        held = _held[key]
        held.visits -= 1
        if held.visits == 0:
            del _held[key]
            held.restore()


def _hold_tensors(module: nn.Module, copies: dict[int, Tensor]) -> Callable[[], None]:
    """Let the forward pass write to copies, and forget what it adds.

    Tensors made in inference mode can't take part in a graph: ordinary copies can.
    """
    stores: list[dict[str, Any]] = [module._parameters, module._buffers, module._modules]
    before = [dict(store) for store in stores]
    attributes = dict(vars(module))
    for name, parameter in module._parameters.items():
        if parameter is not None and parameter.is_inference():
            module._parameters[name] = nn.Parameter(_copy(parameter, copies), requires_grad=False)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = _copy(buffer, copies)
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            vars(module)[name] = _copy(value, copies)

    def restore() -> None:
        for store, entries in zip(stores, before, strict=True):
            _put_back(store, entries)
        _put_back(vars(module), attributes, _holds_tensors)

    return restore


def _hold_script(module: torch.jit.ScriptModule, copies: dict[int, Tensor]) -> Callable[[], None]:
    """The buffers of TorchScript are reached by name alone."""
    before = dict(module.named_buffers(recurse=False))
    for name, buffer in before.items():
        setattr(module, name, _copy(buffer, copies))

    def restore() -> None:
        for name, buffer in before.items():
            setattr(module, name, buffer)

    return restore


def _hold_stance() -> Callable[[], Any]:
    stance: Any = torch.compiler.set_stance("force_eager")
    return partial(stance.__exit__, None, None, None)


def _hold_random(leaving: ExitStack, device: torch.device) -> None:
    source: Any = torch if device.type == "cpu" else torch.get_device_module(device)
    if hasattr(source, "get_rng_state"):
        where = () if device.type in ("cpu", "mps") else (device,)

        def take() -> Callable[[], Any]:
            return partial(source.set_rng_state, source.get_rng_state(*where), *where)

        _hold(leaving, torch, f"random {device}", take)


def _copy(tensor: Tensor, copies: dict[int, Tensor]) -> Tensor:
    if id(tensor) not in copies:
        copies[id(tensor)] = tensor.detach().clone()
    return copies[id(tensor)]


def _put_back(
    store: dict[str, Any], before: dict[str, Any], concerns: Callable[[Any], bool] = lambda _: True
) -> None:
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
