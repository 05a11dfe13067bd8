"""Finding the layers that are tapped: the named ones, or the default one, found once per model."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.gradients.graph import UnrelatedError
from medsal.probe.taps.layers import Layer
from medsal.probe.taps.memory import remember_default, remembered_default
from medsal.probe.taps.record import Record
from medsal.probe.taps.remarks import before_tokens, narrow
from medsal.probe.taps.searching import SearchedPass
from medsal.probe.taps.tapping import Tapped
from medsal.probe.visits.handing import WantsCopyError
from medsal.types import Target

# How many layers of tokens are tried from the end: those of a block, and what follows it.
_TOKENS = 24


@dataclass(frozen=True, eq=False)
class Finding:
    """Layers of an image, asked about for some targets.

    Attributes:
        model: the model, visited.
        image: ``(n, c, *s)``, an ordinary tensor.
        targets: what is scored.
        key: what layers depend on besides the model.
        ask: runs the model on an image.
        forward: does so for the record; with ``key=`` it lends the image, with ``copied=True`` the
            image is a copy already.
        record: where is put down which layers it was, and what to tell of them.
    """

    model: nn.Module
    image: Tensor
    targets: tuple[Target, ...]
    key: Any
    ask: Callable[[Tensor], Any]
    forward: Callable[..., Any]
    record: Record

    def taps(self, names: Sequence[str], gradients: bool) -> list[Tapped]:
        """Layers by name, or the default one.

        Args:
            names: dotted names; empty = the last layer that still has all spatial axes.
            gradients: whether they are asked for.

        Raises:
            LookupError: when there is no such layer.
            ValueError: when a layer is not reached, or a score does not depend on it.
        """
        try:
            return self._taps(names, gradients)
        except WantsCopyError:
            return self._taps(names, gradients)  # the model gets a copy from now on

    def _taps(self, names: Sequence[str], gradients: bool) -> list[Tapped]:
        known = [*names] or self._remembered()
        try:
            if known:
                return self._tap(known)
        except UnrelatedError:
            if names:
                raise
            # It was another target's.
        try:
            # It is the same layer for methods that ask for no gradients.
            with torch.enable_grad():
                return self._search()
        except UnrelatedError:
            if gradients:
                raise
        # A score without a gradient: of the last layer, which is nobody else's default.
        found, _ = self._pass().search(self._run, self.targets)
        return self._tap(found[:1])

    def _search(self) -> list[Tapped]:
        watched = self._pass()
        names, tap = watched.search(self._run, self.targets)
        if tap:
            remember_default(self.model, self.key, names[0])
            return self._noted([tap], watched)
        if not names:
            return self._search_tokens(watched)
        try:
            taps = self._tap(names[:1])
        except UnrelatedError:
            return self._tap([self._related(names) or names[0]])
        remember_default(self.model, self.key, names[0])
        return taps

    def _related(self, names: Sequence[str]) -> str | None:
        """The last layer on the way to the scores, where others ended later: another output's."""
        leaf = self.image.clone().requires_grad_()
        with torch.enable_grad():
            run = partial(self.forward, leaf.clone(), copied=True)
            found = self._pass().last_related(names, run, self.targets)
        if found and self._kinds:
            remember_default(self.model, (self.key, self._kinds), found)
        return found

    def _search_tokens(self, watched: SearchedPass) -> list[Tapped]:
        """The last layer of tokens of the usual width whose cells the score depends on."""
        rows = [each for each in watched.seen.layers() if each.shape and len(each.shape) == 3]
        wide = [
            each.name
            for each in rows
            if self.image.ndim > 3 and each.shape and each.shape[-1:] == _width(rows)
        ]
        for name in wide[: -_TOKENS - 1 : -1]:
            try:
                taps = self._tap([name])
            except ValueError:  # they can't be placed, or the class token alone counts
                continue
            remember_default(self.model, self.key, name)
            return taps
        remember_default(self.model, self.key, None)
        return []

    def _tap(self, names: Sequence[str]) -> list[Tapped]:
        watched = self._pass()
        return self._noted(watched.tap(names, self._run, self.targets), watched)

    def _pass(self) -> SearchedPass:
        return SearchedPass(self.model, self.image, self.ask, self.key)

    def _run(self) -> Any:
        return self.forward(self.image, key=self.key)

    @property
    def _kinds(self) -> tuple[type, ...]:
        """Of targets of medsal's own, which look at the same output; else empty."""
        kinds = tuple(type(each) for each in self.targets)
        return kinds if all(each.__module__.startswith("medsal.") for each in kinds) else ()

    def _remembered(self) -> list[str]:
        """The default layer, if it was found before: for all targets, or for some alone."""
        return remembered_default(self.model, (self.key, self._kinds)) or remembered_default(
            self.model, self.key
        )

    def _noted(self, taps: list[Tapped], watched: SearchedPass) -> list[Tapped]:
        """Put down which layers and targets it was; warn where a grid has one cell on an axis."""
        size = tuple(self.image.shape[2:])
        for tap in taps:
            shape = tuple(tap.activations.shape)
            grid = shape[2:]
            if len(grid) != len(size) or shape[0] != len(self.image):
                raise ValueError(
                    f"layer {tap.layer!r} puts out the shape {shape}, without the {len(size)} "
                    f"spatial axes of the {len(self.image)} samples; medsal.layers(model, image) "
                    f"lists the layers with their shapes"
                )
            if any(cells == 1 < voxels for cells, voxels in zip(grid, size, strict=True)):
                self._warn(narrow(tap.layer, grid, size, watched.seen.layers()))
            if told := before_tokens(tap.layer, watched.seen.layers(), len(size)):
                self.record.note(told)
        if self.record.passes == 1 and watched.settled:
            self.record.settled = [*zip(self.targets, watched.settled, strict=True)]
        self.record.layers = tuple(tap.layer for tap in taps)
        self.record.cells, self.record.extent = tuple(taps[0].activations.shape[2:]), size
        return taps

    def _warn(self, note: str) -> None:
        if self.record.note(note):
            warnings.warn(note, UserWarning, stacklevel=2)


def _width(rows: Sequence[Layer]) -> tuple[int, ...]:
    """How many features most layers of tokens have."""
    counts = Counter((each.shape or ())[-1:] for each in rows)
    return counts.most_common(1)[0][0] if counts else ()
