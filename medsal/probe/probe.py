"""A model and a target, seen as one function from images to a score per sample."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe import layers as lay
from medsal.probe.card import ModelCard, card
from medsal.probe.graph import detached, gradients_of, leaf_of, plain
from medsal.probe.relus import RULES, Rule
from medsal.probe.visiting import unwrapped, visiting
from medsal.targets import checked_scores
from medsal.types import Features, Image, Scores, Target


@dataclass
class Record:
    """What the first forward pass of a probe showed, for the result that is made of it."""

    output: Any = None
    layers: tuple[str, ...] = ()
    cells: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


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


@dataclass(frozen=True, eq=False)
class Probe:
    """A model and a target, seen as one function ``image -> one score per sample``.

    It holds no state of the model: every call visits it and leaves no trace. Where ``target`` is a
    tuple, `scores`, `gradients` and `taps` answer for all of its targets from one forward pass.

    Attributes:
        model: any module; wrappers of `torch.compile` and `DataParallel` are looked through.
        target: a target, or a tuple of them.
        forward_kwargs: further arguments of the model's forward pass.
    """

    model: nn.Module
    target: Target | tuple[Target, ...]
    forward_kwargs: Mapping[str, Any] = field(default_factory=dict)
    record: Record = field(default_factory=Record, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", unwrapped(self.model))

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.target if isinstance(self.target, tuple) else (self.target,)

    def __call__(self, image: Image) -> Scores:
        """The score of each sample, ``(n,)``; no graph is recorded."""
        self._single()
        return self.scores(image)[:, 0]

    def scores(self, image: Image) -> Tensor:
        """The score of each sample for each target, ``(n, t)``; no graph is recorded."""
        output = self.output(image)
        return torch.stack([checked_scores(each, output, len(image)) for each in self.targets], 1)

    def output(self, image: Image) -> Any:
        """The model's output; no graph is recorded."""
        with visiting(self.model), torch.no_grad():
            return self._forward(plain(image))

    def gradient(self, image: Image, relus: Rule = "plain") -> Image:
        """The gradient of the score by each voxel, ``(n, c, *s)``; see `gradients`."""
        self._single()
        return self.gradients(image, relus)[:, 0]

    def gradients(self, image: Image, relus: Rule = "plain") -> Tensor:
        """The gradient of each target's score by each voxel, from one forward pass.

        Args:
            image: ``(n, c, *s)``.
            relus: what a ReLU does to the gradient: ``"guided"`` for guided backpropagation,
                ``"deconvnet"`` for the deconvolutional network's rule.

        Returns:
            ``(n, t, c, *s)``.

        Raises:
            ValueError: when a score does not depend on the image; with a rule, when the model has
                no ReLU or other activations besides.
        """
        with visiting(self.model):
            leaf = plain(image).detach().requires_grad_()
            rule = RULES[relus]() if relus in RULES else None
            # The backward pass too: a checkpointed layer runs its ReLUs there once more.
            with rule or nullcontext():
                # A copy goes in: a network may write into its input.
                output = self._forward(leaf.clone(), copied=True)
                scores = self._scores(output, len(image))
                if rule:
                    rule.check(self.model)
                gradients = [each for (each,) in self._differentiate(scores, [leaf], "the image")]
        return torch.stack(gradients, 1)

    def tapped(self, image: Image, layer: str | None = None) -> tuple[Features, Features]:
        """A layer's activations and the score's gradient by them, each ``(n, k, *f)``."""
        self._single()
        (tap,) = self.taps(image, [layer] if layer else None)
        return tap.activations, tap.gradients[0]

    def scores_with(
        self, image: Image, layer: str, change: Callable[[Tensor], Tensor], samples: int
    ) -> Tensor:
        """The scores ``(samples, t)`` when a layer's output is changed; no graph is recorded.

        Args:
            image: ``(n, c, *s)``.
            layer: dotted name.
            change: from the layer's output to what goes on in its place.
            samples: how many samples that has.

        Raises:
            LookupError: when there is no such layer.
        """
        module, part = lay.named_layer(self.model, layer)

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            chosen = lay.chosen_part(layer.partition("[")[0], output, part)
            return lay.with_part(output, part, change(chosen))

        with visiting(self.model), torch.no_grad(), lay.watching({layer: module}, watch):
            return torch.stack(self._scores(self._forward(plain(image)), samples), 1)

    def taps(
        self, image: Image, names: Sequence[str] | None = None, gradients: bool = True
    ) -> list[Tapped]:
        """Layers' activations and each score's gradients by them, from one forward pass.

        No graph is recorded before the (first) layer: there the output is detached and becomes the
        leaf.

        Args:
            image: ``(n, c, *s)``.
            names: dotted names; None = the last layer that still has all spatial axes, found in
                the same pass and remembered for the model.
            gradients: False for the activations alone, without a graph.

        Raises:
            LookupError: when there is no such layer.
            ValueError: when a layer is not reached, or a score does not depend on it.
        """
        default = lay.remembered_default(self.model)
        wanted = list(names or ([default] if default else []))
        with visiting(self.model), torch.set_grad_enabled(gradients):
            if not wanted:
                lay.reject_script(self.model)
                found, taps = self._search(image)
                if taps is not None:
                    return self._noted([taps], image)
                wanted = [found]
            return self._noted(self._tap(image, wanted), image)

    def layers(self, image: Image) -> list[lay.Layer]:
        """Every layer that a forward pass meets, in the order in which they end."""
        lay.reject_script(self.model)
        with visiting(self.model), torch.no_grad():
            return lay.list_layers(self.model, lambda: self._forward(plain(image)), plain(image))

    def card(self) -> ModelCard:
        """Which model it is: its class, size, and the fingerprint of its weights."""
        return card(self.model)

    def _forward(self, image: Tensor, copied: bool = False) -> Any:
        output = self.model(image if copied else image.clone(), **self.forward_kwargs)
        if self.record.output is None:
            self.record.output = detached(output)
        return output

    def _scores(self, output: Any, samples: int) -> list[Tensor]:
        return [checked_scores(each, output, samples) for each in self.targets]

    def _tap(self, image: Image, names: list[str]) -> list[Tapped]:
        """One forward pass with the named layers tapped, one backward pass for each target."""
        meant = {name: lay.named_layer(self.model, name) for name in names}
        taps: dict[str, Tensor] = {}
        recording = [True]

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            part = meant[name][1]
            leaf, onwards = leaf_of(
                lay.chosen_part(name.partition("[")[0], output, part), bool(set(taps) - {name})
            )
            # A checkpointed layer runs again in the backward pass: the same steps, but nothing to
            # note.
            if recording[0]:
                taps[name] = leaf
            return lay.with_part(output, part, onwards)

        with lay.watching({name: module for name, (module, _) in meant.items()}, watch):
            output = self._forward(plain(image))
            recording[0] = False
            missing = [name for name in names if name not in taps]
            if missing:
                raise ValueError(
                    f"layer {missing[0]!r} takes no part in the forward pass; choose another one"
                )
            return self._differentiated(output, len(image), {name: taps[name] for name in names})

    def _differentiated(self, output: Any, samples: int, leaves: dict[str, Tensor]) -> list[Tapped]:
        """The layers with their gradients; without them where no graph was recorded."""
        where = f"layer {', '.join(map(repr, leaves))}"
        gradients: list[list[Tensor]] = []
        if torch.is_grad_enabled():
            scores = self._scores(output, samples)
            gradients = list(self._differentiate(scores, list(leaves.values()), where))
        return [
            Tapped(name, leaf.detach(), tuple(each[i].detach() for each in gradients))
            for i, (name, leaf) in enumerate(leaves.items())
        ]

    def _search(self, image: Image) -> tuple[str, Tapped | None]:
        """Find the default layer, and tap it in the same pass where it is not the output itself.

        Each layer that may be the last one becomes the leaf, and drops the graph of the one before.
        """
        last = lay.LastSpatial(plain(image))
        leaves: list[Tensor] = []

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if not last.admits(name, module, inputs, output):
                return None
            leaf, onwards = leaf_of(output)
            leaves[:] = [leaf]
            last.went_on(onwards)
            return onwards

        modules = {name: module for name, module in self.model.named_modules() if name}
        with lay.watching(modules, watch):
            output = self._forward(plain(image))
        stands = last.ended(output)
        name = lay.remember_default(self.model, last.name)
        if not stands:
            return name, None
        return name, self._differentiated(output, len(image), {name: leaves[0]})[0]

    def _differentiate(
        self, scores: list[Tensor], leaves: list[Tensor], where: str
    ) -> Iterator[list[Tensor]]:
        """The gradients of each score by the leaves; the graph is freed after the last one."""
        for i, score in enumerate(scores):
            keep = i < len(scores) - 1
            found = gradients_of(score, leaves, keep) if score.requires_grad else None
            if found is None:
                raise ValueError(
                    f"the score of {self.targets[i]!r} does not depend on {where}, so it has no "
                    f"gradient there; choose another target or layer"
                )
            yield found

    def _noted(self, taps: list[Tapped], image: Image) -> list[Tapped]:
        """Put down which layers it was, and warn where a grid has a single cell on an axis."""
        self.record.layers = tuple(tap.layer for tap in taps)
        self.record.cells = tuple(taps[0].activations.shape[2:])
        for tap in taps:
            grid, size = tuple(tap.activations.shape[2:]), tuple(image.shape[2:])
            if len(grid) != len(size):
                raise ValueError(
                    f"layer {tap.layer!r} puts out the shape {tuple(tap.activations.shape)}, "
                    f"without the {len(size)} spatial axes of the image; "
                    f"medsal.layers(model, image) lists those that have them"
                )
            if any(cells == 1 < voxels for cells, voxels in zip(grid, size, strict=True)):
                note = lay.narrow(tap.layer, grid, size, self.layers(image))
                if note not in self.record.notes:
                    self.record.notes += (note,)
                    warnings.warn(note, UserWarning, stacklevel=2)
        return taps

    def _single(self) -> None:
        if len(self.targets) != 1:
            raise ValueError(
                f"expected a probe with one target, got {len(self.targets)}; "
                f"use scores, gradients or taps"
            )
