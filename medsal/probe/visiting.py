"""The visit: evaluation mode and frozen parameters inside, everything as before outside.

Several threads may visit one model at once. Each flag is therefore held once per module, parameter
and buffer: the first visitor notes and sets it, the last one puts it back.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn


@dataclass
class _Held:
    """One thing that visits changed, how to put it back, and by how many visits it is held."""

    owner: object
    restore: Callable[[], None]
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
    """Ordinary tensors without a graph inside, whatever the caller's grad or inference mode is."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def visiting(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters inside; every trace removed outside.

    Restores, also after an exception: the mode of each module, the flag of each parameter, the
    content and identity of each buffer, and the state of the random number generators.
    """
    keys: list[tuple[int, str]] = []
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            with _lock:
                _arrive(model, keys)
            with torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            with _lock:
                _leave(keys)


def _arrive(model: nn.Module, keys: list[tuple[int, str]]) -> None:
    for module in model.modules():
        _hold(module, "mode", partial(_hold_mode, module), keys)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                _hold(module, f"buffer {name}", partial(_hold_buffer, module, name, buffer), keys)
    for parameter in model.parameters():
        _hold(parameter, "flag", partial(_hold_flag, parameter), keys)


def _hold(
    owner: object, aspect: str, take: Callable[[], Callable[[], None]], keys: list[tuple[int, str]]
) -> None:
    key = (id(owner), aspect)
    if key not in _held:
        # The owner is kept, so that its id stays its own for the time of the visit.
        _held[key] = _Held(owner, take())
    _held[key].visits += 1
    keys.append(key)


def _leave(keys: list[tuple[int, str]]) -> None:
    for key in reversed(keys):
        held = _held[key]
        held.visits -= 1
        if held.visits == 0:
            del _held[key]
            held.restore()


def _hold_mode(module: nn.Module) -> Callable[[], None]:
    training = module.training

    def restore() -> None:
        module.training = training

    # The attribute, not eval(): a network may override train() and do more there.
    module.training = False
    return restore


def _hold_flag(parameter: nn.Parameter) -> Callable[[], None]:
    flag = parameter.requires_grad

    def restore() -> None:
        if parameter.requires_grad is not flag:
            parameter.requires_grad_(flag)

    if flag:
        parameter.requires_grad_(False)
    return restore


def _hold_buffer(module: nn.Module, name: str, buffer: Tensor) -> Callable[[], None]:
    with torch.no_grad():
        content = buffer.detach().clone()
    version = _version(buffer)

    def restore() -> None:
        module._buffers[name] = buffer
        if version is None or buffer._version != version:
            with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                buffer.copy_(content)

    return restore


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
