"""The visit: evaluation mode and frozen parameters inside, everything as before outside."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from medsal.probe.holding import LOCK, Attribute, Buffers, copy_of, hold, hold_all, is_held
from medsal.probe.layers import modules_of

# The attribute, not eval(): a network may override train() and do more there.
_modes = Attribute("training", lambda module, mode: setattr(module, "training", mode))
_flags = Attribute("requires_grad", lambda parameter, flag: parameter.requires_grad_(flag))
_buffers = Buffers()
_NO_TENSORS = {bool, int, float, str, tuple, list, dict, OrderedDict, set, type(None)}


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
    with LOCK:
        # Frozen TorchScript has no modes.
        hold_all(leaving, _modes, [each for each in modules if hasattr(each, "training")])
        hold_all(leaving, _flags, [each for each in parameters if not each.is_inference()])
        simple = {id(each) for each in modules if _is_held_simply(each)}
        for module in modules:
            if id(module) not in simple:
                script = isinstance(module, torch.jit.ScriptModule)
                take: Any = _hold_script if script else _hold_tensors
                hold(leaving, module, "tensors", partial(take, module, copies))
        rest = [m for m in modules if m._buffers and id(m) in simple]
        hold_all(leaving, _buffers, rest, copies)
    for device in {torch.device("cpu"), *(each.device for each in parameters)}:
        _hold_random(leaving, device)
    if any("_orig_mod" in m._modules or vars(m).get("_compiled_call_impl") for m in modules):
        # Compiled parts show no layers and no activations.
        hold(leaving, torch.compiler, "stance", _hold_stance)


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
    if is_held(module, "tensors"):
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


def _hold_tensors(module: nn.Module, copies: dict[int, Tensor]) -> Callable[[], None]:
    """Let the forward pass write to copies, and forget what it adds.

    Tensors made in inference mode can't take part in a graph: ordinary copies can.
    """
    stores: list[dict[str, Any]] = [module._parameters, module._buffers, module._modules]
    before = [dict(store) for store in stores]
    attributes = dict(vars(module))
    for name, parameter in module._parameters.items():
        if parameter is not None and parameter.is_inference():
            module._parameters[name] = nn.Parameter(copy_of(parameter, copies), requires_grad=False)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = copy_of(buffer, copies)
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            vars(module)[name] = copy_of(value, copies)

    def restore() -> None:
        for store, entries in zip(stores, before, strict=True):
            _put_back(store, entries)
        _put_back(vars(module), attributes, _holds_tensors)

    return restore


def _hold_script(module: torch.jit.ScriptModule, copies: dict[int, Tensor]) -> Callable[[], None]:
    """The buffers of TorchScript are reached by name alone."""
    before = dict(module.named_buffers(recurse=False))
    for name, buffer in before.items():
        setattr(module, name, copy_of(buffer, copies))

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

        hold(leaving, torch, f"random {device}", take)


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
