"""Where a graph begins and what is taken from it: leaves, gradients, plain tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medsal.types import Target


class _Attach(torch.autograd.Function):
    """The tensor goes on as it is; its gradient goes to the leaf that stands for it."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, tensor: Tensor) -> Tensor:
        return tensor.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Place(torch.autograd.Function):
    """A tensor's place in the graph, without its numbers."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.new_empty(1).expand(tensor.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def place_of(tensor: Tensor) -> Tensor:
    """What the gradient by a tensor can be asked of, and sent on from: its numbers are not kept."""
    with torch.inference_mode(False), torch.enable_grad():
        place: Tensor = _Place.apply(tensor)  # type: ignore[no-untyped-call]
    return place


def leaf_of(tensor: Tensor, behind: bool = False, shared: bool = False) -> tuple[Tensor, Tensor]:
    """The tensor to differentiate by, and the one that goes on in its place.

    A layer that is called several times becomes the leaf each time: its last call counts.

    Args:
        tensor: what a layer puts out.
        behind: whether an earlier layer is a leaf as well.
        shared: whether both are the same numbers in memory; an activation in place that follows
            writes the leaf, whose version tells of it.
    """
    # The network may have turned gradients off for its features; those after them are asked for.
    with torch.inference_mode(False), torch.enable_grad():
        if behind and tensor.requires_grad:
            # An earlier layer needs the graph. An in-place activation that follows writes the copy.
            return tensor, tensor.clone()
        same = tensor.clone() if tensor.is_inference() else tensor.detach()
        leaf = (same.detach() if shared else tensor.detach().clone()).requires_grad_()
        onwards: Tensor = _Attach.apply(leaf, same)  # type: ignore[no-untyped-call]
    return leaf, onwards


class UnrelatedError(ValueError):
    """A score does not depend on what it should be differentiated by."""


def differentiated(
    scores: Sequence[Tensor],
    targets: Sequence[Target],
    leaves: list[Tensor],
    where: str,
    outputs: list[Tensor] | None = None,
) -> list[list[Tensor]]:
    """The gradients of each score by the leaves; the graph is freed after the last one.

    Raises:
        UnrelatedError: when a score does not depend on them.
    """
    gradients = []
    for i, score in enumerate(scores):
        keep = i < len(scores) - 1
        found = _asked(score, leaves, keep, outputs) if score.requires_grad else None
        if found is None:
            raise UnrelatedError(
                f"the score of {targets[i]!r} does not depend on {where}, so it has no gradient "
                f"there; choose another target or layer"
            )
        gradients.append([each.detach() for each in found])
    return gradients


def _asked(
    score: Tensor, leaves: list[Tensor], keep: bool, outputs: list[Tensor] | None
) -> list[Tensor] | None:
    try:
        return gradients_of(score, leaves, keep, outputs)
    except RuntimeError as error:
        if "modified by an inplace operation" in str(error):
            raise ValueError(
                "the model writes over numbers that its own gradient needs, so it has none; mend "
                "that operation in place, or use a method without gradients, such as 'occlusion'"
            ) from error
        if "use_reentrant" not in str(error):
            raise
        raise ValueError(
            "the model checkpoints its layers with use_reentrant=True, which gives no gradients by "
            "layers or voxels; build it with use_reentrant=False or without checkpoints, or use a "
            "method without gradients, such as 'occlusion'"
        ) from error


def gradients_of(
    score: Tensor, leaves: list[Tensor], keep: bool, outputs: list[Tensor] | None = None
) -> list[Tensor] | None:
    """The gradients of a score, in float32 at least; None where it does not depend on the leaves.

    Volumetric gradients are near 1e-5 and vanish in float16, whose smallest number is 6e-8. There
    the score is scaled up, by less when that overflows, and the gradients are scaled back in
    float32.

    Args:
        score: ``(n,)``.
        leaves: what to differentiate by.
        keep: keep the graph for another score.
        outputs: where leaves follow one another in the forward pass, what each was put in place
            of: then the gradient by the first one alone is given, through all of them.
    """
    device = leaves[0].device.type
    half = score.dtype == torch.float16 or any(leaf.dtype == torch.float16 for leaf in leaves)
    half = half or (
        torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    )
    scales = (2.0**15, 2.0**7, 1.0) if half else (1.0,)
    found: list[Tensor | None]
    for scale in scales:
        seed = (score if score.dtype == torch.float64 else score.float()).sum() * scale
        retain = keep or scale != scales[-1]
        # In this thread, where taps act: checkpointed layers run again in the backward pass.
        with torch.autograd.set_multithreading_enabled(False):
            if outputs is None or len(outputs) == 1:
                grad = torch.autograd.grad
                found = list(grad(seed, leaves, retain_graph=retain, allow_unused=True))
            else:
                found = [_chained(seed, leaves, outputs)]
        there = [each for each in found if each is not None]
        if len(there) < len(found):
            return None
        wide = [each if each.dtype == torch.float64 else each.float() for each in there]
        if scale != 1:
            wide = [each / scale for each in wide]
        if scale == scales[-1] or all(bool(each.isfinite().all()) for each in wide):
            return wide
    return None


def _chained(seed: Tensor, leaves: list[Tensor], outputs: list[Tensor]) -> Tensor | None:
    """The gradient by the first leaf: directly, and through the leaves after it; None without."""
    found: list[Tensor | None] = list(
        torch.autograd.grad(seed, leaves, retain_graph=True, allow_unused=True)
    )
    for i in reversed(range(1, len(leaves))):
        if found[i] is None or not outputs[i].requires_grad:
            continue
        through = torch.autograd.grad(
            outputs[i], leaves[:i], found[i], retain_graph=True, allow_unused=True
        )
        for j, each in enumerate(through):
            known = found[j]
            if each is not None:
                found[j] = each if known is None else known + each
    return found[0]


def plain(image: Tensor) -> Tensor:
    """An ordinary tensor of the same numbers: no MetaTensor, no inference tensor, no graph."""
    plain = image.detach().as_subclass(Tensor)
    return plain.clone() if plain.is_inference() else plain


def detached(output: Any) -> Any:
    """The same structure with plain tensors that hold no graph."""
    if isinstance(output, Tensor):
        return plain(output)
    if isinstance(output, Mapping):
        return {key: detached(value) for key, value in output.items()}
    if isinstance(output, tuple | list):
        parts = [detached(value) for value in output]
        return parts if isinstance(output, list) else tuple(parts)
    return output
