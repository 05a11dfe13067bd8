"""Tapping: one forward pass in which layers' outputs become the leaves of the graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.gradients.graph import UnrelatedError, differentiated, leaf_of
from medsal.probe.gradients.sparing import in_checkpoint, sparing_later
from medsal.probe.taps.layers import named_layer
from medsal.probe.taps.layout import Layout
from medsal.probe.taps.memory import OnGrid, is_written, remember_on_grids, remember_written
from medsal.probe.taps.parts import Path, chosen_part, split_name, with_part
from medsal.probe.taps.passes import Pass, Run
from medsal.probe.taps.remarks import before_tokens
from medsal.targets import checked_scores, settle
from medsal.types import Features, Target

Targets = Sequence[Target]


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


# Up to how many bytes a layer is copied as it becomes a leaf, which an activation in place might
# write; of more, copies would cost more than a second pass where one does.
_COPIED = 2**20


@dataclass
class Leaf:
    """A layer's output, the leaf that went on in its place, and where its cells lie.

    The version tells whether an activation in place has written the leaf since; the call, which one
    of the module's it was.
    """

    leaf: Tensor
    output: Tensor
    layout: Layout
    version: int
    call: int


class TappedPass(Pass):
    """A pass in which layers are tapped.

    Attributes:
        leaves: by the layers' names, in the order in which they were met.
        settled: the targets with their own choices fixed at this pass's output.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.leaves: dict[str, Leaf] = {}
        self.settled: list[Target] = []

    def tap(self, names: Sequence[str], run: Run, targets: Targets) -> list[Tapped]:
        """Tap layers by name.

        Raises:
            LookupError: when there is no such layer.
            ValueError: when one is not reached, or a score does not depend on it.
        """
        meant: dict[int, list[tuple[str, Path]]] = {}
        for name in names:
            module, path = named_layer(self.model, name)
            meant.setdefault(id(module), []).append((name, path))

        def watch(_: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            for name, path in meant.get(id(module), ()):
                if self._is_early(name, module):
                    continue
                chosen = chosen_part(split_name(name)[0], output, path)
                if not self._counts(name in self.leaves, chosen):
                    continue
                layout = self._layout(name, module, inputs, chosen) if self._open else Layout()
                output = with_part(output, path, self._become_leaf(name, module, chosen, layout))
            return output if id(module) in meant else None

        with self._watched(watch, names):
            output = self._sparing(run)
            if self._is_lost(names):
                self._calls.clear()
                self.leaves.clear()
                output = self._sparing(run)
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
        return self._remembered([self._tapped(name, leaves, gradients) for name in leaves], leaves)

    def _sparing(self, run: Run) -> Any:
        """The output of a pass whose graph, from the first leaf on, keeps little."""
        with sparing_later() as self._spare:
            return run()

    def _become_leaf(self, name: str, module: nn.Module, output: Tensor, layout: Layout) -> Tensor:
        """What goes on in the place of a layer's output, and has the leaf behind it."""
        behind = bool(self.leaves.keys() - {name})
        # Copies of the first, large layers would double what the pass needs.
        shared = output.nbytes > _COPIED and not is_written(self.model, self._key, name)
        leaf, onwards = leaf_of(output, behind, shared)
        # A checkpointed layer runs again in the backward pass: the same steps, nothing to note.
        if self._open:
            self._spare()
            call = self._calls[id(module)]
            self.leaves[name] = Leaf(leaf, output, layout, leaf._version, call)
        return onwards

    def _is_early(self, name: str, module: nn.Module) -> bool:
        """Whether the call that counts is one of the next: no graph need be recorded until then."""
        known = self._on_grids.get(name)
        # A checkpoint runs some of the calls again, and must meet the same.
        return known is not None and self._calls[id(module)] < known.call and not in_checkpoint()

    def _is_lost(self, names: Sequence[str]) -> bool:
        """Whether a layer has to be met again: the next pass is another one."""
        written = [name for name, each in self.leaves.items() if each.leaf._version != each.version]
        for name in written:
            remember_written(self.model, self._key, name)
        # The module is called less often this time.
        fewer = any(name in self._on_grids and name not in self.leaves for name in names)
        if fewer:
            self._on_grids = {}
        return fewer or bool(written)

    def _tapped(self, name: str, leaves: dict[str, Leaf], gradients: list[list[Tensor]]) -> Tapped:
        each, samples = leaves[name], len(self.image)
        place = list(leaves).index(name)
        found = tuple(each.layout.placed(g[place], samples) for g in gradients)
        for whole, placed in zip(gradients, found, strict=True):
            if each.layout.tokens and bool(whole[place].any()) and not bool(placed.any()):
                raise UnrelatedError(
                    f"the score depends on layer {name!r} by its class token alone, which has no "
                    f"place in the image; name a layer before the last attention, such as the "
                    f"first norm of the last block"
                )
        return Tapped(name, each.layout.placed(each.leaf.detach(), samples), found)

    def _remembered(self, taps: list[Tapped], leaves: Mapping[str, Leaf]) -> list[Tapped]:
        """Keep which have cells on a grid: next time no other layer need be watched for them.

        Of what there is a note, all layers are watched each time.
        """
        layouts = {each.layer: leaves[each.layer].layout for each in taps}
        plain = {
            each.layer: OnGrid(layouts[each.layer].channels_last, leaves[each.layer].call)
            for each in taps
            if not layouts[each.layer].tokens
            and all(n > 1 for n in each.activations.shape[2:])
            and not before_tokens(each.layer, self.seen.layers(), self.image.ndim - 2)
        }
        remember_on_grids(self.model, self._key, plain)
        return taps

    def _scores(self, output: Any, targets: Targets) -> list[Tensor]:
        if not torch.is_grad_enabled():
            return []
        self.settled = [settle(each, output) for each in targets]
        return [checked_scores(each, output, len(self.image)) for each in self.settled]
