"""Backpropagation rules for ReLU, without module surgery.

A `TorchFunctionMode` sees each activation on its way: as a module, a function, in place or shared
by several layers. The forward pass runs as it is; only the gradient that arrives at a ReLU is
changed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from medsal.probe.gradients.sparing import RELUS, in_checkpoint, spared_relu

Rule = Literal["plain", "guided", "deconvnet"]

_THRESHOLD: Any = getattr(F, "_threshold", None)  # what nn.Threshold calls; F.threshold is its name
_RELUS: set[Any] = {
    F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6,
}  # fmt: skip
# ReLU under another name, when the bounds say so: nn.ReLU6 is a hardtanh from 0 to 6.
_CLIPS: dict[Any, tuple[str, ...]] = {
    F.hardtanh: ("min_val", "max_val"), F.hardtanh_: ("min_val", "max_val"),
    F.threshold: ("threshold", "value"), _THRESHOLD: ("threshold", "value"),
    torch.threshold_: ("threshold", "value"), torch.threshold: ("threshold", "value"),
    torch.clamp: ("min", "max"), torch.clamp_: ("min", "max"), Tensor.clamp: ("min", "max"),
    Tensor.clamp_: ("min", "max"), torch.clamp_min: ("min",), torch.clamp_min_: ("min",),
    Tensor.clamp_min: ("min",), Tensor.clamp_min_: ("min",),
    torch.clip: ("min", "max"), torch.clip_: ("min", "max"), Tensor.clip: ("min", "max"),
    Tensor.clip_: ("min", "max"),
}  # fmt: skip
# ReLU where the other argument is 0 everywhere.
_LARGER: set[Any] = {
    torch.maximum, torch.max, torch.fmax, Tensor.maximum, Tensor.max, Tensor.fmax,
}  # fmt: skip
# Activations that let negative values through: the rule, which asks where the input was positive,
# says nothing of them.
_OTHERS: dict[Any, str] = {
    F.leaky_relu: "LeakyReLU", F.leaky_relu_: "LeakyReLU", F.rrelu: "RReLU", F.rrelu_: "RReLU",
    torch.rrelu: "RReLU", torch.rrelu_: "RReLU", F.prelu: "PReLU", torch.prelu: "PReLU",
    Tensor.prelu: "PReLU", F.elu: "ELU", F.elu_: "ELU", F.selu: "SELU", F.selu_: "SELU",
    torch.selu: "SELU", torch.selu_: "SELU", F.celu: "CELU", F.celu_: "CELU", torch.celu: "CELU",
    torch.celu_: "CELU", F.gelu: "GELU", F.silu: "SiLU", F.mish: "Mish", F.glu: "GLU",
    F.hardswish: "Hardswish", F.softplus: "Softplus", F.softsign: "Softsign",
    F.hardshrink: "Hardshrink", torch.hardshrink: "Hardshrink", Tensor.hardshrink: "Hardshrink",
    F.softshrink: "Softshrink", F.tanhshrink: "Tanhshrink", F.logsigmoid: "LogSigmoid",
}  # fmt: skip
# Activations written out in their own modules, of which no function call tells.
_MODULES = {"Swish", "MemoryEfficientSwish", "MemoryEfficientMish", "GEGLU"}


class ReLURule(TorchFunctionMode):
    """Changes the gradient at each ReLU that the forward pass meets inside it.

    Attributes:
        relus: how many were met.
        others: the activations besides that the rule does not cover.
    """

    method: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self.relus = 0
        self.others: set[str] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        rectified = _above_zero(func, args, given)
        if rectified is not None:
            func, args, given = torch.relu, (rectified,), {}
        if func in _RELUS or _clips_at_zero(func, args, given):
            before = args[0] if args else given["input"]
            # Where no graph is recorded no gradient passes: such a ReLU guides nothing.
            self.relus += bool(torch.is_grad_enabled() and before.requires_grad)
            return self.relu(func, args, given)
        if func in _OTHERS:
            self.others.add(_OTHERS[func])
        return func(*args, **given)

    def relu(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
        """The ReLU's output, with the rule on its gradient."""
        raise TypeError(f"{type(self).__name__} does not say what happens at a ReLU")

    def check(self, model: nn.Module) -> None:
        """Refuse where the rule is not defined.

        Raises:
            ValueError: when the model has no ReLU, or activations besides that the rule does not
                cover.
        """
        name = type(model).__name__
        kinds = {type(module).__name__ for module in model.modules()}
        met = ", ".join(sorted(self.others | (kinds & _MODULES)))
        if met:
            raise ValueError(
                f"{self.method} is defined for ReLU alone; {name} also has {met}; "
                f"use method='gradient' or 'gradcam'"
            )
        if not self.relus:
            raise ValueError(
                f"{name} has no ReLU that is seen in its forward pass, so {self.method} "
                f"would be the plain gradient; use method='gradient' or 'gradcam'"
            )


class GuidedReLU(ReLURule):
    """Lets only positive gradients pass each ReLU: guided backpropagation.

    At a ReLU the gradient is ``g * [x > 0] * [g > 0]``. The ReLU itself takes care of ``[x > 0]``;
    a hook on its output of ``[g > 0]``.

    Source: Springenberg et al., 2015, "Striving for Simplicity", arXiv:1412.6806, section 3.4.
    """

    method: ClassVar[str] = "guided backpropagation"

    def relu(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
        if func in RELUS:
            spared = spared_relu(func, *args, **{**kwargs, "guided": True})
            if spared is not None:
                return spared
        output: Tensor = func(*args, **kwargs)
        if output.requires_grad:
            output.register_hook(_positive)  # type: ignore[no-untyped-call]
        return output


class DeconvReLU(ReLURule):
    """Rectifies the gradient at each ReLU, wherever the input was: the deconvolutional network.

    At a ReLU the gradient is ``g * [g > 0]``: what goes up is rectified as what comes down is, and
    the forward pass's own mask is not used.

    Source: Zeiler and Fergus, 2014, "Visualizing and Understanding Convolutional Networks",
    arXiv:1311.2901, section 2.1.
    """

    method: ClassVar[str] = "deconvnet"

    def relu(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
        before: Tensor = args[0] if args else kwargs.pop("input")
        copy = before.clone() if before.requires_grad else before
        with torch.no_grad():
            output: Tensor = func(copy.detach(), *args[1:], **kwargs)
        if not before.requires_grad:
            return output
        through: Tensor = _Through.apply(before.clone(), output)  # type: ignore[no-untyped-call]
        in_place = output.data_ptr() == copy.data_ptr()
        # Whoever else holds the tensor sees it rectified, as after the ReLU in place.
        return before.copy_(through) if in_place else through


class _Through(torch.autograd.Function):
    """The ReLU's output; its gradient goes to the input, rectified and not masked."""

    @staticmethod
    def forward(ctx: Any, before: Tensor, output: Tensor) -> Tensor:
        if in_checkpoint():
            # A checkpointed layer runs again without the rule, and must save as much as a ReLU.
            ctx.save_for_backward(output)
        return output.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _positive(gradients[0]), None


RULES: dict[str, type[ReLURule]] = {"guided": GuidedReLU, "deconvnet": DeconvReLU}


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)


def _clips_at_zero(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a clipping function is a ReLU, with or without an upper bound."""
    if func not in _CLIPS:
        return False
    low, *high = _CLIPS[func]
    named = dict(zip((low, *high), args[1:], strict=False)) | dict(kwargs)
    bottom, top = named.get(low), named.get(high[0]) if high else None
    if not _is_zero(bottom):
        return False
    if low == "threshold":
        return bool(top == 0)
    return not (isinstance(top, Tensor) and top.requires_grad)


def _above_zero(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What is rectified where a function takes the larger of a tensor and 0; None if it is not."""
    given = [*args, *kwargs.values()]
    if func not in _LARGER or len(given) != 2:
        return None
    for tensor, other in (given, given[::-1]):
        if isinstance(tensor, Tensor) and isinstance(other, Tensor) and _is_zero(other):
            return tensor if other.dtype == tensor.dtype and other.ndim <= tensor.ndim else None
    return None


def _is_zero(bound: Any) -> bool:
    """Whether a bound is the number 0, or a tensor of it that no gradient reaches."""
    if isinstance(bound, Tensor):
        return not bound.requires_grad and not bool(bound.any())
    return isinstance(bound, int | float) and bound == 0
