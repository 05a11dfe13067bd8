"""A model and a target, seen as one function from images to a score per sample."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.gradients.graph import detached, differentiated, plain
from medsal.probe.gradients.relus import RULES, Rule
from medsal.probe.gradients.sparing import Sparing
from medsal.probe.inputs import check_input
from medsal.probe.replays.boxes import Box
from medsal.probe.replays.recording import Recording
from medsal.probe.replays.replay import CleanPass
from medsal.probe.taps import layers as lay
from medsal.probe.taps.changing import ChangedPass
from medsal.probe.taps.finding import Finding
from medsal.probe.taps.memory import key_of, remembered_on_grids
from medsal.probe.taps.record import Record
from medsal.probe.taps.tapping import Tapped
from medsal.probe.visits.card import ModelCard, card
from medsal.probe.visits.handing import handed
from medsal.probe.visits.inventory import Inventory, inventory_of
from medsal.probe.visits.visiting import unwrapped, visiting
from medsal.targets import checked_scores
from medsal.types import Features, Image, Scores, Target


@dataclass(frozen=True, eq=False)
class Probe:
    """A model and a target, seen as one function ``image -> one score per sample``.

    It holds no state of the model: every call visits it and leaves no trace. Where ``target`` is a
    tuple, `scores`, `gradients` and `taps` answer for all of its targets from one forward pass.

    Attributes:
        model: any module; wrappers of `torch.compile` and `DataParallel` are looked through.
        target: a target, or a tuple of them.
        forward_kwargs: further arguments of the model's forward pass, by name.
        input: the parameter of the forward pass that takes the image; None = the first one.
    """

    model: nn.Module
    target: Target | tuple[Target, ...]
    forward_kwargs: Mapping[str, Any] = field(default_factory=dict)
    input: str | None = None
    record: Record = field(default_factory=Record, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", unwrapped(self.model))
        check_input(self.model, self.input, self.forward_kwargs)

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
        with visiting(self.model, self._known), torch.no_grad():
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
        rule = RULES[relus]() if relus in RULES else None
        for module in self.model.modules() if rule else ():
            lay.reject_script(module)
        with visiting(self.model, self._known):
            leaf = plain(image).detach().requires_grad_()
            with Sparing(), rule or nullcontext():
                # A copy goes in: a network may write into its input.
                output = self._forward(leaf.clone(), copied=True)
                scores = self._scores(output, len(image))
            if rule:
                rule.check(self.model)
            gradients = differentiated(scores, self.targets, [leaf], "the image")
        return torch.stack([each for (each,) in gradients], 1)

    def tapped(self, image: Image, layer: str | None = None) -> tuple[Features, Features]:
        """A layer's activations and the score's gradient by them, each ``(n, k, *f)``."""
        self._single()
        (tap,) = self.taps(image, [layer] if layer else None)
        return tap.activations, tap.gradients[0]

    def scores_with(
        self,
        image: Image,
        layer: str,
        change: Callable[[Tensor], Tensor],
        samples: int,
        clean: CleanPass | None = None,
    ) -> Tensor:
        """The scores ``(samples, t)`` when a layer's output is changed; no graph is recorded.

        Args:
            image: ``(n, c, *s)``.
            layer: dotted name.
            change: from the layer's output to what goes on in its place.
            samples: how many samples that has.
            clean: a pass at this image that was kept for this layer: only what follows the layer is
                run.

        Raises:
            LookupError: when there is no such layer.
        """
        watched = self._pass(image)

        def again(shadow: Tensor, aside: Callable[[], Any]) -> Any:
            return watched.changed(layer, change, lambda: self._asked(shadow), aside)

        def in_full() -> Any:
            return watched.changed(layer, change, lambda: self._forward(plain(image)))

        with visiting(self.model, self._known), torch.no_grad():
            times = samples // len(image)
            output = clean.changed(again, in_full, times) if clean else in_full()
            return torch.stack(self._scores(output, samples), 1)

    @contextmanager
    def keeping(
        self, image: Image, layer: str | None = None, boxes: Box | None = None
    ) -> Iterator[CleanPass]:
        """A pass at an image, kept inside so that later ones run only what a change reaches.

        Args:
            image: ``(n, c, *s)``.
            layer: that `scores_with` changes.
            boxes: of the image, those that `scores_patched` changes, where no layer is.

        Raises:
            LookupError: when there is no such layer.
        """
        with visiting(self.model, self._known), torch.no_grad():
            copy = plain(image).clone()
            recording = Recording(copy, boxes)
            watched = self._pass(image)
            if layer:
                watched.call_of(layer)  # known before the recording starts
            run = partial(self._forward, copy, copied=True)
            with recording:
                output = watched.marked(layer, recording.mark, run) if layer else run()
            yield CleanPass(plain(image), detached(output), recording)

    def scores_kept(self, clean: CleanPass) -> Tensor:
        """The scores ``(n, t)`` of a pass that was kept."""
        return torch.stack(self._scores(clean.output, len(clean.image)), 1)

    def scores_patched(self, clean: CleanPass, patch: Tensor, box: Box) -> Tensor:
        """The scores ``(samples, t)`` of images that differ from a kept pass's in a box.

        Args:
            clean: the pass, kept for these boxes among others.
            patch: what stands there, ``(samples, c, *size)``: a multiple of the pass's samples.
            box: where, for each of them.
        """
        with visiting(self.model, self._known), torch.no_grad():
            output = clean.patched(self._asked, patch, box)
            return torch.stack(self._scores(output, len(patch)), 1)

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
        lay.reject_script(self.model)
        with visiting(self.model, self._known) as found, torch.set_grad_enabled(gradients):
            finding = Finding(
                self.model,
                plain(image),
                self.targets,
                self._key(image, found),
                self._asked,
                self._forward,
                self.record,
            )
            return finding.taps(names or (), gradients)

    def layers(self, image: Image) -> list[lay.Layer]:
        """Every layer that a forward pass meets, in the order in which they end."""
        lay.reject_script(self.model)
        watched = self._pass(image)
        with visiting(self.model, self._known), torch.no_grad():
            return watched.layers(lambda: self._forward(plain(image)), self._default(image))

    def _default(self, image: Image) -> str | None:
        """The default layer, where the score that is asked about tells which it is."""
        asked = replace(self, record=Record())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return asked.taps(image)[0].layer
        except (ValueError, TypeError, LookupError):
            # No score can be read off this output: the last layer on a grid is told.
            return None

    def look_through(self) -> None:
        """Look through the model now, and not at each pass: hundreds of modules take their time.

        From here on it is to keep its modules, parameters and buffers.
        """
        self.record.found = inventory_of(self.model)

    def card(self) -> ModelCard:
        """Which model it is: its class, size, and the fingerprint of its weights."""
        return card(self.model, self._known)

    @property
    def _known(self) -> Inventory | None:
        found = self.record.found
        # A method may have made a probe of another model of it.
        return found if found and found.modules[0] is self.model else None

    def _forward(self, image: Tensor, copied: bool = False, key: Any = None) -> Any:
        known = key and remembered_on_grids(self.model, key)  # a pass of such an image has ended
        with nullcontext() if known else lay.batched(self.model, image):
            if key:
                output = handed(self.model, key, image, self._asked)
            else:
                output = self._asked(image if copied else image.clone())
        self.record.passes += 1
        if self.record.output is None:
            self.record.output = detached(output)
        return output

    def _asked(self, image: Tensor) -> Any:
        if self.input is None:
            return self.model(image, **self.forward_kwargs)
        return self.model(**{**self.forward_kwargs, self.input: image})

    def _key(self, image: Image, found: Inventory | None = None) -> Any:
        tree = (found or inventory_of(self.model)).tree
        return key_of(tree, image, {**self.forward_kwargs, "": self.input})

    def _pass(self, image: Image) -> ChangedPass:
        return ChangedPass(self.model, plain(image), self._asked, self._key(image))

    def _scores(self, output: Any, samples: int) -> list[Tensor]:
        return [checked_scores(each, output, samples) for each in self.targets]

    def _single(self) -> None:
        if len(self.targets) != 1:
            raise ValueError(
                f"expected a probe with one target, got {len(self.targets)}; "
                f"use scores, gradients or taps"
            )
