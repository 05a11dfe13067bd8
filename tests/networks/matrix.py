"""Every method on every network of MONAI: the right map, or the right refusal.

`python -m tests.networks.matrix [NAME ...]` prints the table as Markdown, for all networks or for
those whose names begin so.
"""

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import medsal
from tests.networks.zoo import ZOO, Entry, image_of

# Few steps: what is asked is whether a method works on a network, not how smooth its map is.
CHEAP: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 2},
    "expected_gradients": {"samples": 2},
    "rise": {"masks": 4, "cells": 3},
}
# A forward pass for each channel: on a layer with few of them.
PER_CHANNEL = ("scorecam", "ablationcam")
FEW = 64


def methods() -> list[str]:
    """The names of all methods, but for those that tests register."""
    return [name for name, kind in medsal.METHODS.items() if kind.__module__.startswith("medsal.")]


def options(name: str, network: nn.Module, image: Tensor) -> dict[str, Any]:
    """The options that make a method cheap on this network."""
    found = dict(CHEAP.get(name, {}))
    if name == "expected_gradients":
        found["references"] = torch.zeros_like(image)
    if name == "occlusion":
        found["window"] = [size // 2 for size in image.shape[2:]]
    if name in PER_CHANNEL:
        found["layer"] = _narrow_layer(network, image)
    return found


def _narrow_layer(network: nn.Module, image: Tensor) -> str | None:
    """The last layer with a grid of cells and few channels."""
    layers = [
        layer
        for layer in medsal.layers(network, image)
        if layer.shape
        and len(layer.shape) == image.ndim
        and layer.shape[1] <= FEW
        and all(cells > 1 for cells in layer.shape[2:])
        and layer.kind.startswith(("Conv", "ADN", "Convolution"))
    ]
    return layers[-1].name if layers else None


def outcome(entry: Entry, network: nn.Module, method: str) -> str:
    """``right``, or ``refused: why``.

    Raises:
        AssertionError: when the map is wrong: not as defined, not finite, or of another shape.
    """
    image = image_of(entry)
    before = _state(network)
    try:
        chosen = options(method, network, image)
        result = medsal.explain(network, image, entry.target, method, **chosen)
    except (ValueError, TypeError, LookupError) as error:
        assert _state(network) == before, "a trace is left after a refusal"
        return f"refused: {error}"
    assert _state(network) == before, "a trace is left"
    assert result.data.shape == (1, 1, *image.shape[2:])
    assert bool(result.data.isfinite().all())
    check = DEFINITIONS.get(method)
    if check:
        expected = check(network, image, result)
        scale = float(expected.abs().max())
        apart = float((result.data - expected).abs().max())
        assert apart <= 2e-3 * scale, f"differs from its definition by {apart:.2g} of {scale:.2g}"
    return "right"


def _state(network: nn.Module) -> list[Any]:
    """What must be as before: modes, flags, hooks, gradients and every number."""
    modules = [
        (m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in network.modules()
    ]
    flags = [(p.requires_grad, p.grad is None) for p in network.parameters()]
    numbers = [float(t.double().sum()) for t in network.state_dict().values()]
    return [modules, flags, numbers]


def _plain_gradient(network: nn.Module, image: Tensor, result: medsal.SaliencyMap) -> Tensor:
    """The gradient by ordinary means: evaluation mode, a leaf, and autograd."""
    leaf = image.clone().requires_grad_()
    score = result.targets[0](_evaluated(network, leaf))
    return torch.autograd.grad(score.sum(), leaf)[0]


def _evaluated(network: nn.Module, image: Tensor) -> Any:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.enable_grad():
            return network(image)
    finally:
        for module, mode in modes:
            module.training = mode


def _plain_taps(
    network: nn.Module, image: Tensor, result: medsal.SaliencyMap
) -> tuple[Tensor, Tensor]:
    """Activations and gradients of the result's layer by an ordinary hook."""
    seen: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        seen.append(output)
        # An activation in place may follow.
        return output.clone()

    handle = network.get_submodule(str(result.layer)).register_forward_hook(hook)
    try:
        output = _evaluated(network, image.clone().requires_grad_())
    finally:
        handle.remove()
    score = result.targets[0](output).sum()
    return seen[-1].detach(), torch.autograd.grad(score, seen[-1])[0]


def _upsampled(coarse: Tensor, image: Tensor) -> Tensor:
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[image.ndim - 2]
    return nn.functional.interpolate(coarse, image.shape[2:], mode=mode, align_corners=False)


def _gradcam(network: nn.Module, image: Tensor, result: medsal.SaliencyMap) -> Tensor:
    activations, gradients = _plain_taps(network, image, result)
    weights = gradients.flatten(2).mean(2).reshape(*gradients.shape[:2], *(1,) * (image.ndim - 2))
    return _upsampled((weights * activations).sum(1, keepdim=True).relu(), image)


def _hirescam(network: nn.Module, image: Tensor, result: medsal.SaliencyMap) -> Tensor:
    activations, gradients = _plain_taps(network, image, result)
    return _upsampled((gradients * activations).sum(1, keepdim=True), image)


# Written out by ordinary means; the other methods have definitions of their own in tests/methods.
DEFINITIONS: dict[str, Callable[[nn.Module, Tensor, medsal.SaliencyMap], Tensor]] = {
    "gradient": lambda n, x, r: _plain_gradient(n, x, r).abs().amax(1, keepdim=True),
    "input_x_gradient": lambda n, x, r: (x * _plain_gradient(n, x, r)).sum(1, keepdim=True),
    "gradcam": _gradcam,
    "hirescam": _hirescam,
}


def build(entry: Entry) -> nn.Module:
    """The network with seeded weights, in evaluation mode."""
    torch.manual_seed(0)
    return entry.build().eval()


def main(names: list[str]) -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    said: dict[str, str] = {}
    columns = methods()
    print("| network | " + " | ".join(f"`{name}`" for name in columns) + " | seconds |")
    print("|---" * (len(columns) + 2) + "|")
    for name, entry in ZOO.items():
        if names and not name.startswith(tuple(names)):
            continue
        network, row, start = build(entry), [], time.perf_counter()
        for method in columns:
            found = outcome(entry, network, method)
            if found != "right":
                found = f"refused [{_number(said, found)}]"
            row.append(found)
        print(
            f"| {name} | " + " | ".join(row) + f" | {time.perf_counter() - start:.0f} |", flush=True
        )
    print()
    for reason, number in said.items():
        print(f"{number}. {reason}")


def _number(said: dict[str, str], reason: str) -> str:
    return said.setdefault(reason, str(len(said) + 1))


if __name__ == "__main__":
    main(sys.argv[1:])
