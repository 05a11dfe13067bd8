"""How often an explanation waits for the device: each number that is read there takes a moment.

``python -m tests.device.waits cuda``, or ``... far LIBRARY``: a line for each network.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks import nets
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import medsal
from tests.device import far

# Calls that give a number, or a shape, that depends on what the tensors hold.
_READING = {"aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::is_nonzero"}
NETS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "resnet": (lambda: nets.resnet10(n_input_channels=1, num_classes=3, widen_factor=0.25), 1),
    "densenet": (lambda: nets.DenseNet(3, 1, 3, 8, 4, (2, 2)), None),
    "segresnet": (lambda: nets.SegResNet(3, 8, 1, 3), None),
}


class Waits(TorchDispatchMode):
    """Counts the calls that hand something from the device to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        given, made = _devices((args, kwargs)), _devices(output)
        there = given - {"cpu"}
        self.count += bool(there) and (func._schema.name in _READING or "cpu" in made)
        return output


def _devices(tree: Any) -> set[str]:
    return {each.device.type for each in tree_leaves(tree) if isinstance(each, Tensor)}


def main(device: str, library: Sequence[str]) -> None:
    if library:
        far.register(Path(*library))
    for name, (build, target) in NETS.items():
        net, x = build().eval().to(device), torch.rand(1, 1, 32, 32, 32, device=device)
        medsal.explain(net, x, target)
        with Waits() as waits:
            medsal.explain(net, x, target)
        sys.stdout.write(f"{name} {waits.count}\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
