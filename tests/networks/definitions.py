"""Every method written out by ordinary means: hooks, autograd, loops. Slow, plain, float64."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import medsal
from medsal.methods.noise import noisy
from medsal.probe.taps.parts import chosen_part, split_name
from tests.networks.zoo import Entry


@dataclass
class Case:
    """A network in evaluation mode, an image, and what `explain` gave for it."""

    network: nn.Module
    image: Tensor
    entry: Entry
    result: medsal.SaliencyMap

    def output(self, image: Tensor) -> Any:
        if self.entry.input is None:
            return self.network(image, **self.entry.kwargs)
        return self.network(**{self.entry.input: image}, **self.entry.kwargs)

    def score(self, image: Tensor) -> Tensor:
        return self.result.targets[0](self.output(image))

    def gradient(self, image: Tensor) -> Tensor:
        leaf = image.clone().requires_grad_()
        (found,) = torch.autograd.grad(self.score(leaf.clone()).sum(), leaf)
        return found

    def taps(self) -> tuple[Tensor, Tensor]:
        """A layer's last output ``(n, k, *f)`` and the score's gradient by it."""
        seen: list[Tensor] = []
        name, path = split_name(str(self.result.layer))

        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            whole = chosen_part(name, output, path)
            if whole.ndim == self.image.ndim or self.tokens:
                seen.append(whole)
            # An activation in place may follow.
            return output.clone() if not path else output

        handle = self.network.get_submodule(name).register_forward_hook(hook)
        try:
            score = self.score(self.image.clone().requires_grad_()).sum()
        finally:
            handle.remove()
        (gradients,) = torch.autograd.grad(score, seen[-1:], allow_unused=True)
        pair = (seen[-1].detach(), torch.zeros_like(seen[-1]) if gradients is None else gradients)
        activations, gradients = (self.placed(each) for each in pair)
        assert tuple(activations.shape[2:]) == self.result.cells
        return activations, gradients

    @property
    def tokens(self) -> bool:
        """Whether the layer puts out tokens, the class's first, the cells row by row."""
        return str(self.result.layer).endswith(("norm1", "ln_1"))

    def placed(self, tensor: Tensor) -> Tensor:
        cells = self.result.cells
        assert cells is not None
        if self.tokens:
            rows = tensor[:, -math.prod(cells) :].transpose(1, 2)
            return rows.unflatten(2, cells)
        return tensor if tuple(tensor.shape[2:]) == cells else tensor.movedim(-1, 1)

    def upsampled(self, coarse: Tensor) -> Tensor:
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[self.image.ndim - 2]
        return F.interpolate(coarse, self.image.shape[2:], mode=mode, align_corners=False)


def over_cells(x: Tensor) -> Tensor:
    return x.flatten(2).sum(2).reshape(*x.shape[:2], *(1 for _ in x.shape[2:]))


def cams(weigh: Callable[[Tensor, Tensor], Tensor], signed: bool = False) -> Any:
    """The map of these weights of activations and gradients."""

    def found(case: Case) -> Tensor:
        activations, gradients = case.taps()
        coarse = (weigh(activations, gradients) * activations).sum(1, keepdim=True)
        return case.upsampled(coarse if signed else coarse.clamp(min=0))

    return found


def mean_gradient(a: Tensor, g: Tensor) -> Tensor:
    return over_cells(g) / a[0, 0].numel()


def gradcam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    below = 2 * g**2 + over_cells(a) * g**3
    alpha = torch.where(below == 0, 0, g**2 / torch.where(below == 0, 1, below))
    return over_cells(alpha * g.clamp(min=0))


def axiom(a: Tensor, g: Tensor) -> Tensor:
    total = over_cells(a)
    return torch.where(total == 0, 0, over_cells(g * a) / torch.where(total == 0, 1, total))


def eigencam(case: Case) -> Tensor:
    activations, _ = case.taps()
    matrix = activations[0].flatten(1).T
    found = matrix @ torch.linalg.svd(matrix, full_matrices=False).Vh[0]
    found = -found if found.sum() < 0 else found
    return case.upsampled(found.reshape(1, 1, *activations.shape[2:]))


def scorecam(case: Case) -> Tensor:
    activations, _ = case.taps()
    masks = case.upsampled(activations)
    scores = []
    for channel in masks.unbind(1):
        span = channel.max() - channel.min()
        seen = (channel - channel.min()) / span if span > 0 else channel * 0
        scores.append(case.score(case.image * seen[:, None]))
    weights = torch.stack(scores, 1).softmax(1)
    coarse = torch.einsum("nk,nk...->n...", weights, activations)[:, None]
    return case.upsampled(coarse.clamp(min=0))


def ablationcam(case: Case) -> Tensor:
    activations, _ = case.taps()
    whole, losses = case.score(case.image), []
    name, path = split_name(str(case.result.layer))
    assert not path
    for k in range(activations.shape[1]):

        def without(module: nn.Module, inputs: Any, output: Tensor, k: int = k) -> Tensor:
            changed = output.clone()
            # A view, so that what is written there is written to the layer's own tensor.
            case.placed(changed)[:, k] = 0
            return changed

        handle = case.network.get_submodule(name).register_forward_hook(without)
        losses.append((whole - case.score(case.image)) / whole)
        handle.remove()
    coarse = torch.einsum("nk,nk...->n...", torch.stack(losses, 1), activations)[:, None]
    return case.upsampled(coarse.clamp(min=0))


class Rectifier(torch.autograd.Function):
    """A ReLU with the gradient of guided backpropagation, or of the deconvolutional network."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, masked: bool, top: float | None) -> Tensor:
        ctx.save_for_backward(x)
        ctx.masked, ctx.top = masked, top
        return x.clamp(min=0, max=top)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        open_ = (x > 0) & (x < ctx.top) if ctx.top else x > 0
        return g.clamp(min=0) * (open_ if ctx.masked else 1), None, None


@contextmanager
def rectified(masked: bool) -> Iterator[None]:
    """Every function that a ReLU may be replaced by name."""

    def relu(x: Tensor, inplace: bool = False) -> Tensor:
        found = Rectifier.apply(x.clone() if inplace else x, masked, None)
        return x.copy_(found) if inplace else found

    def clip(x: Tensor, low: float = -1.0, high: float = 1.0, inplace: bool = False) -> Tensor:
        assert low == 0
        return Rectifier.apply(x, masked, high)

    with ExitStack() as patches:
        for owner in (F, torch, Tensor):
            patches.enter_context(patch.object(owner, "relu", relu))
            patches.enter_context(patch.object(owner, "relu_", lambda x: relu(x, True)))
        patches.enter_context(patch.object(F, "hardtanh", clip))
        patches.enter_context(patch.object(F, "relu6", lambda x, inplace=False: clip(x, 0, 6)))
        yield


def rule(case: Case, masked: bool) -> Tensor:
    with rectified(masked):
        return case.gradient(case.image)


def guided_gradcam(case: Case) -> Tensor:
    where = cams(mean_gradient)(case)
    return (rule(case, True) * where).sum(1, keepdim=True)


def integrated_gradients(case: Case) -> Tensor:
    places, shares = np.polynomial.legendre.leggauss(case.result.method.steps)
    total = sum(
        case.gradient(case.image * (place + 1) / 2) * share / 2
        for place, share in zip(places.tolist(), shares.tolist(), strict=True)
    )
    return (total * case.image).sum(1, keepdim=True)


def smoothgrad(case: Case) -> Tensor:
    method = case.result.method
    copies = noisy(case.image, method.samples, method.sigma, method.seed)
    return (sum(map(case.gradient, copies)) / method.samples).sum(1, keepdim=True)


def expected_gradients(case: Case) -> Tensor:
    """Of references that are all 0."""
    method = case.result.method
    total = sum(case.gradient(case.image * place) for _, place in method._draws(1))
    return (total * case.image / method.samples).sum(1, keepdim=True)


def occlusion(case: Case) -> Tensor:
    found = torch.zeros(1, 1, *case.image.shape[2:], dtype=torch.float64)
    whole = case.score(case.image)
    widths = case.result.method.window
    starts = [range(0, size, w) for size, w in zip(case.image.shape[2:], widths, strict=True)]
    for start in product(*starts):
        at = (..., *(slice(a, a + w) for a, w in zip(start, widths, strict=True)))
        hidden = case.image.clone()
        hidden[at] = 0
        found[at] = whole - case.score(hidden)
    return found


def rise(case: Case) -> Tensor:
    method = case.result.method
    masks = [each.double() for each in method.drawn(case.image)]
    total = sum(case.score((case.image * each).to(case.image)) * each for each in masks)
    return total[None, None] / (method.masks * method.p)


DEFINITIONS: dict[str, Callable[[Case], Tensor]] = {
    "cam": cams(lambda a, g: over_cells(g), signed=True),
    "gradcam": cams(mean_gradient),
    "gradcam++": cams(gradcam_plus_plus),
    "hirescam": cams(lambda a, g: g, signed=True),
    "layercam": cams(lambda a, g: g.clamp(min=0)),
    "xgradcam": cams(axiom),
    "eigencam": eigencam,
    "scorecam": scorecam,
    "ablationcam": ablationcam,
    "gradient": lambda case: case.gradient(case.image).abs().amax(1, keepdim=True),
    "input_x_gradient": lambda case: (case.image * case.gradient(case.image)).sum(1, keepdim=True),
    "guided_backprop": lambda case: rule(case, True).sum(1, keepdim=True),
    "deconvnet": lambda case: rule(case, False).sum(1, keepdim=True),
    "guided_gradcam": guided_gradcam,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "expected_gradients": expected_gradients,
    "occlusion": occlusion,
    "rise": rise,
}
