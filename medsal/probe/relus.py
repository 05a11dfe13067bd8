"""Backpropagation rules for ReLU, without module surgery.

A `TorchFunctionMode` sees each activation on its way: as a module, a function, in place or shared
by several layers. The forward pass runs as it is; only the gradient that arrives at a ReLU is
changed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_RELUS: set[Any] = {
    F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6,
}  # fmt: skip
# Activations that let negative values through: the rule, which asks where the input was positive,
# says nothing of them.
_OTHERS: dict[Any, str] = {
    F.leaky_relu: "LeakyReLU", F.leaky_relu_: "LeakyReLU", F.rrelu: "RReLU", F.rrelu_: "RReLU",
    F.prelu: "PReLU", torch.prelu: "PReLU", Tensor.prelu: "PReLU", F.elu: "ELU", F.elu_: "ELU",
    F.selu: "SELU", torch.selu: "SELU", F.celu: "CELU", torch.celu: "CELU", F.gelu: "GELU",
    F.silu: "SiLU", F.mish: "Mish", F.hardswish: "Hardswish", F.softplus: "Softplus",
}  # fmt: skip


class GuidedReLU(TorchFunctionMode):
    """Lets only positive gradients pass each ReLU: guided backpropagation.

    At a ReLU the gradient is ``g * [x > 0] * [g > 0]``. The ReLU itself takes care of ``[x > 0]``;
    a hook on its output of ``[g > 0]``.

    Source: Springenberg et al., 2015, "Striving for Simplicity", arXiv:1412.6806, section 3.4.
    """

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
        output = func(*args, **(kwargs or {}))
        if func in _RELUS:
            self.relus += 1
            if output.requires_grad:
                output.register_hook(_positive)
        elif func in _OTHERS:
            self.others.add(_OTHERS[func])
        return output

    def check(self, model: object) -> None:
        """Refuse where the rule is not defined.

        Raises:
            ValueError: when the model has no ReLU, or activations besides that the rule does not
                cover.
        """
        name = type(model).__name__
        met = ", ".join(sorted(self.others))
        if self.others:
            raise ValueError(
                f"guided backpropagation is defined for ReLU alone; {name} also has {met}; "
                f"use method='gradient' or 'gradcam'"
            )
        if not self.relus:
            raise ValueError(
                f"{name} has no ReLU that is seen in its forward pass, so guided backpropagation "
                f"would be the plain gradient; use method='gradient' or 'gradcam'"
            )


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)
