"""Tapping: one forward pass in which a layer's output becomes the leaf of the graph."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.default import LastSpatial
from medsal.probe.graph import gradients_of, leaf_of
from medsal.probe.layers import Layer, Sightings, chosen_part, named_layer, watching, with_part
from medsal.targets import checked_scores
from medsal.types import Features, Target

Run = Callable[[], Any]
Targets = Sequence[Target]


class UnrelatedError(ValueError):
    """A score does not depend on what it should be differentiated by."""


@dataclass(frozen=True)
class Tapped:
    """A layer's output and its gradients.

    Attributes:
        layer: the layer's dotted name.
        activations: ``(n, k, *f)``.
        gradients: for each target, the gradient of its score by the activations, ``(n, k, *f)``.
    """

    layer: str
    activations: Features
    gradients: tuple[Features, ...]


# How many layers may lie between a segmentation's features and its output: those of one block.
_DEPTH = 4


@dataclass
class _Leaf:
    """A layer's output, the leaf that went on in its place, and whether channels come last."""

    leaf: Tensor
    output: Tensor
    channels_last: bool = False


class Pass:
    """One forward pass of a model, watched: its layers' shapes, and those that were tapped."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        self.model, self.image = model, image
        self.seen = Sightings(image)
        self.leaves: dict[str, _Leaf] = {}
        self._open = True

    def tap(self, names: Sequence[str], run: Run, targets: Targets) -> list[Tapped]:
        """Tap layers by name.

        Raises:
            LookupError: when there is no such layer.
            ValueError: when one is not reached, or a score does not depend on it.
        """
        meant: dict[int, list[tuple[str, int | None]]] = {}
        for name in names:
            module, part = named_layer(self.model, name)
            meant.setdefault(id(module), []).append((name, part))

        def watch(_: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            for name, part in meant.get(id(module), ()):
                chosen = chosen_part(name.partition("[")[0], output, part)
                if name in self.leaves and chosen.ndim != self.image.ndim:
                    continue  # a shared activation's call on the grid counts, not that in the head
                if self.seen.attention(module, inputs, chosen):
                    raise ValueError(
                        f"layer {name!r} puts out weights among tokens {tuple(chosen.shape)}, "
                        f"which have no place in the image; choose another layer"
                    )
                behind = bool(set(self.leaves) - {name})
                output = with_part(output, part, self._become_leaf(name, chosen, behind))
            return output if id(module) in meant else None

        with self._watched(watch):
            output = run()
            self._open = False
            for name in names:
                if name not in self.leaves:
                    raise ValueError(
                        f"layer {name!r} takes no part in the forward pass; choose another one"
                    )
            leaves = {name: self.leaves[name] for name in names}
            # Still watched: a checkpointed layer runs again in the backward pass.
            scores = self._scores(output, targets)
            where = f"layer {', '.join(map(repr, names))}"
            gradients = differentiated(
                scores, targets, [each.leaf for each in leaves.values()], where
            )
        return _tapped(leaves, gradients)

    def layers(self, run: Run) -> list[Layer]:
        """Every layer that the pass meets, in the order in which they end, the default marked."""
        last = LastSpatial(self.image)

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if self._admits(last, name, module, inputs, output):
                last.went_on(output)

        with self._watched(watch):
            index = last.chosen(run())
        return self.seen.layers(None if index is None else last.candidates[index].name)

    def search(self, run: Run, targets: Targets) -> tuple[list[str], Tapped | None]:
        """Find the default layer, and tap it in the same pass.

        Each layer that may be the last one becomes the leaf. The graphs between the last few
        leaves are kept where the model's own output may be among them.

        Returns:
            Its name, then those of the layers before it, which count where the score turns out not
            to depend on it (a head for another output); empty where there is none. And the tap,
            None where a layer has to be tapped in a pass of its own.
        """
        last = LastSpatial(self.image)
        kept: list[_Leaf] = []
        depth = 1 if _ends_linear(self.model) else _DEPTH

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if not self._open or not self._admits(last, name, module, inputs, output):
                return None
            onwards = self._become_leaf(name, output, False)
            kept.append(self.leaves.pop(name))
            del kept[:-depth]
            kept[0].output = kept[0].leaf
            last.went_on(onwards)
            return onwards

        with self._watched(watch):
            output = run()
            self._open = False
        index = last.chosen(output)
        if index is None:
            return [], None
        names = [each.name for each in last.candidates[index::-1]]
        name, after = last.candidates[index].name, len(last.candidates) - index
        if after > len(kept):
            return names, None
        chain = kept[-after:]
        leaves, outputs = [each.leaf for each in chain], [each.output for each in chain]
        scores = self._scores(output, targets)
        try:
            gradients = differentiated(scores, targets, leaves, f"layer {name!r}", outputs)
        except (RuntimeError, UnrelatedError):
            # A checkpointed layer that ran again without its tap, a graph written over, or a layer
            # beside the way to the score.
            return names, None
        return names, _tapped({name: chain[0]}, gradients)[0]

    def changed(self, layer: str, change: Callable[[Tensor], Tensor], run: Run) -> Any:
        """The model's output when a layer's output ``(n, k, *f)`` is changed."""
        meant, part = named_layer(self.model, layer)

        def watch(_: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if module is not meant:
                return None
            chosen = chosen_part(layer.partition("[")[0], output, part)
            if self.seen.channels_last(layer, chosen):
                return with_part(output, part, change(chosen.movedim(-1, 1)).movedim(1, -1))
            return with_part(output, part, change(chosen))

        with self._watched(watch):
            return run()

    def _admits(self, last: LastSpatial, name: str, module: nn.Module, *went: Any) -> bool:
        return not self.seen.attention(module, *went) and last.admits(name, module, *went)

    def _watched(self, watch: Callable[..., Any]) -> Any:
        def noting(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if self._open:
                self.seen.note(name, module, output)
            return watch(name, module, inputs, output)

        return watching([(k, m) for k, m in self.model.named_modules() if k], noting)

    def _become_leaf(self, name: str, output: Tensor, behind: bool) -> Tensor:
        leaf, onwards = leaf_of(output, behind)
        # A checkpointed layer runs again in the backward pass: the same steps, nothing to note.
        if self._open:
            self.leaves[name] = _Leaf(leaf, output, self.seen.channels_last(name, output))
        return onwards

    def _scores(self, output: Any, targets: Targets) -> list[Tensor]:
        if not torch.is_grad_enabled():
            return []
        return [checked_scores(each, output, len(self.image)) for each in targets]


def differentiated(
    scores: Sequence[Tensor],
    targets: Targets,
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
        found = gradients_of(score, leaves, keep, outputs) if score.requires_grad else None
        if found is None:
            raise UnrelatedError(
                f"the score of {targets[i]!r} does not depend on {where}, so it has no gradient "
                f"there; choose another target or layer"
            )
        gradients.append([each.detach() for each in found])
    return gradients


def _tapped(leaves: dict[str, _Leaf], gradients: list[list[Tensor]]) -> list[Tapped]:
    return [
        Tapped(
            name, _placed(each.leaf.detach(), each), tuple(_placed(g[i], each) for g in gradients)
        )
        for i, (name, each) in enumerate(leaves.items())
    ]


def _placed(tensor: Tensor, leaf: _Leaf) -> Tensor:
    return tensor.movedim(-1, 1) if leaf.channels_last else tensor


def _ends_linear(model: nn.Module) -> bool:
    """Whether the last module with parameters is a linear one: a classifier, not a segmentation."""
    last = [each for each in model.modules() if each._parameters]
    return bool(last) and isinstance(last[-1], nn.Linear)
