"""The visit: evaluation mode and frozen parameters inside, everything as before outside.

Several threads may visit one model at once. Each thing that a visit changes is therefore held once:
the first visitor notes and changes it, the last one puts it back.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@dataclass
class _Held:
    """One thing that visits changed, how to put it back, and by how many visits it is held."""

    owner: object
    restore: Callable[[], Any]
    visits: int = 0


_held: dict[tuple[int, str], _Held] = {}
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
    modules = list(model.modules())
    _reject_lazy(model)
    # Two modules may share a buffer: they share its copy too.
    copies: dict[int, Tensor] = {}
    devices = {torch.device("cpu")}
    with _lock:
        for module in modules:
            # A forward pass may set modes and flags itself. Frozen TorchScript has no modes.
            if hasattr(module, "training"):
                _hold(leaving, module, "mode", partial(_hold_mode, module))
            if not _stays(module):
                script = isinstance(module, torch.jit.ScriptModule)
                hold: Any = _hold_script if script else _hold_tensors
                _hold(leaving, module, "tensors", partial(hold, module, copies))
        for parameter in model.parameters():
            devices.add(parameter.device)
            if not parameter.is_inference():
                _hold(leaving, parameter, "flag", partial(_hold_flag, parameter))
    for device in devices:
        _hold_random(leaving, device)
    if any("_orig_mod" in m._modules or m.__dict__.get("_compiled_call_impl") for m in modules):
        # Compiled parts show no layers and no activations.
        _hold(leaving, torch.compiler, "stance", _hold_stance)


def _stays(module: nn.Module) -> bool:
    """Whether a forward pass writes to nothing of a module: one of torch's own, without buffers."""
    if not type(module).__module__.startswith("torch.nn.modules."):
        return False
    return not (
        module._buffers
        or module._forward_hooks
        or module._forward_pre_hooks
        or any(each is not None and each.is_inference() for each in module._parameters.values())
        or any(isinstance(each, Tensor) for each in vars(module).values())
    )


def _reject_lazy(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(
                f"expected a model that has all its parameters, got a lazy one without {name!r}; "
                f"run {type(model).__name__} once on an image of the right shape"
            )


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


def _hold_mode(module: nn.Module) -> Callable[[], None]:
    training = module.training
    # The attribute, not eval(): a network may override train() and do more there.
    module.training = False
    return partial(setattr, module, "training", training)


def _hold_flag(parameter: nn.Parameter) -> Callable[[], Any]:
    flag = parameter.requires_grad
    parameter.requires_grad_(False)
    return partial(parameter.requires_grad_, flag)


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
