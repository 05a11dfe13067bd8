"""Tapping: one forward pass in which a layer's output becomes the leaf of the graph."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.default import LastSpatial
from medsal.probe.graph import UnrelatedError, differentiated, leaf_of, place_of
from medsal.probe.layers import Layer, Sightings, modules_of, named_layer, watching
from medsal.probe.memory import (
    OnGrid,
    is_written,
    remember_call,
    remember_on_grids,
    remember_written,
    remembered_call,
    remembered_on_grids,
)
from medsal.probe.parts import Path, chosen_part, split_name, with_part
from medsal.probe.remarks import before_tokens
from medsal.probe.sparing import Sparing, in_checkpoint, sparing_later
from medsal.probe.tokens import Layout, tokens_of
from medsal.targets import checked_scores
from medsal.types import Features, Target

Run = Callable[[], Any]
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
# How many modules that were registered last may be a segmentation's last block.
_ENDS = 5


@dataclass
class _Leaf:
    """A layer's output, the leaf that went on in its place, and where its cells lie.

    The version tells whether an activation in place has written the leaf since; the call, which one
    of the module's it was.
    """

    leaf: Tensor
    output: Tensor
    layout: Layout
    version: int
    call: int


class Pass:
    """One forward pass of a model, watched: its layers' shapes, and those that were tapped.

    Args:
        model: the model.
        image: ``(n, c, *s)``.
        ask: runs the model on an image, for passes besides this one.
        key: what layers depend on besides the model.
    """

    def __init__(
        self, model: nn.Module, image: Tensor, ask: Callable[[Tensor], Any], key: Any
    ) -> None:
        self.model, self.image = model, image
        self.seen = Sightings(image)
        self.leaves: dict[str, _Leaf] = {}
        self._ask, self._key = ask, key
        self._open, self._aside = True, False
        self._calls: Counter[int] = Counter()
        self._on_grids = remembered_on_grids(model, key)

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
                if name in self.leaves and chosen.ndim != self.image.ndim:
                    continue  # a shared activation's call on the grid counts, not that in the head
                layout = self._layout(name, module, inputs, chosen) if self._open else Layout()
                behind = bool(set(self.leaves) - {name})
                shared = chosen.nbytes > _COPIED and not is_written(self.model, self._key, name)
                leaf = self._become_leaf(name, module, chosen, layout, behind, shared)
                output = with_part(output, path, leaf)
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

    def layers(self, run: Run, default: str | None = None) -> list[Layer]:
        """Every layer that the pass meets, in the order in which they end, the default marked.

        Args:
            run: the pass.
            default: the one that is marked; None = the last one on a grid.
        """
        last = LastSpatial(self.image)

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if self._admits(last, name, module, inputs, output):
                last.went_on(output)

        with self._watched(watch):
            index = last.chosen(run())
        if default is None and index is not None:
            default = last.candidates[index].name
        return self.seen.layers(default)

    def last_related(self, names: Sequence[str], run: Run, targets: Targets) -> str | None:
        """The last of some layers that every score depends on; None without.

        Args:
            names: the layers, the last one first.
            run: the pass, of an image that gradients are asked for.
            targets: what is scored.
        """
        met: dict[str, Tensor] = {}

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if name not in names or not isinstance(output, Tensor) or not output.requires_grad:
                return None
            met[name] = output
            # What follows may be written in place.
            return output.clone()

        with self._watched(watch):
            with Sparing():
                output = run()
            scores = self._scores(output, targets)
            # A segmentation's own map is no layer of features.
            maps = [each for each in _tensors(output) if each.ndim == self.image.ndim]
            there = [n for n in names if n in met and not any(_equal(met[n], m) for m in maps)]
            for score in scores if there else ():
                if not score.requires_grad:
                    return None
                found = torch.autograd.grad(
                    score.sum(), [met[each] for each in there], retain_graph=True, allow_unused=True
                )
                there = [e for e, g in zip(there, found, strict=True) if g is not None]
        return next(iter(there), None)

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
        ends = _ends_of(self.model)

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if not self._open or not self._admits(last, name, module, inputs, output):
                return None
            layout = Layout(self.seen.channels_last(name, module, output))
            # Copies of the first, large layers would double what the pass needs.
            shared = output.nbytes > _COPIED
            onwards = self._become_leaf(name, module, output, layout, False, shared)
            kept.append(self.leaves.pop(name))
            del kept[: -last.left_open(ends)]
            if len(kept) > 1:
                kept[-1].output = place_of(output)
            kept[0].output = kept[0].leaf  # nothing before it is asked for
            last.went_on(onwards)
            return onwards

        with self._watched(watch):
            output = self._sparing(run)
            self._open = False
        index = last.chosen(output)
        if index is None:
            return [], None
        names = [each.name for each in last.candidates[index::-1]]
        chosen, after = last.candidates[index], len(last.candidates) - index
        name = chosen.name
        if after > len(kept):
            return names, None
        if kept[-after].leaf._version != kept[-after].version:
            remember_written(self.model, self._key, name)
            return names, None
        chain = kept[-after:]
        leaves, outputs = [each.leaf for each in chain], [each.output for each in chain]
        for each in leaves[1:]:
            each.data = each.new_empty(1).expand_as(each)  # its place in the graph is enough
        scores = self._scores(output, targets)
        try:
            gradients = differentiated(scores, targets, leaves, f"layer {name!r}", outputs)
        except (RuntimeError, UnrelatedError):
            # A checkpointed layer that ran again without its tap, a graph written over, or a layer
            # beside the way to the score.
            return names, None
        if name != chosen.made_by:
            chain[0].call = 1  # of the container that handed it on
        found = {name: chain[0]}
        return names, self._remembered([self._tapped(name, found, gradients)], found)[0]

    def changed(
        self,
        layer: str,
        change: Callable[[Tensor], Tensor],
        run: Run,
        aside: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Any:
        """The model's output when a layer's output ``(n, k, *f)`` is changed.

        Args:
            layer: its name.
            change: from its output to what goes on in its place.
            run: the pass.
            aside: makes the context in which the change is made.
        """

        def replace(module: nn.Module, inputs: tuple[Any, ...], output: Any, path: Path) -> Any:
            with aside():
                chosen = chosen_part(split_name(layer)[0], output, path)
                layout, samples = self._layout(layer, module, inputs, chosen), len(self.image)
                features = change(layout.placed(chosen, samples))
                return with_part(output, path, layout.put(chosen, features, samples))

        return self._at(layer, replace, run)

    def marked(self, layer: str, mark: Callable[[Tensor], None], run: Run) -> Any:
        """The model's output; on the way the layer's output is shown to ``mark``."""

        def show(module: nn.Module, inputs: tuple[Any, ...], output: Any, path: Path) -> None:
            mark(chosen_part(split_name(layer)[0], output, path))

        return self._at(layer, show, run)

    def call_of(self, layer: str) -> int:
        """Which of a module's calls in a pass a layer is: the last one on a grid, as in `tap`.

        A shared activation has several. Where it is not known yet, the model runs once more.

        Raises:
            LookupError: when there is no such layer.
        """
        meant, path = named_layer(self.model, layer)
        known = remembered_call(self.model, self._key, layer)
        if known is not None:
            return known
        met = 0

        def watch(_: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal met
            if module is meant:
                chosen = chosen_part(split_name(layer)[0], output, path)
                if not met or chosen.ndim == self.image.ndim:
                    met = self._calls[id(module)]

        with self._watched(watch):
            self._ask(self.image.clone())
        self._calls.clear()
        remember_call(self.model, self._key, layer, met)
        return met

    def _at(self, layer: str, replace: Callable[..., Any], run: Run) -> Any:
        """The output of a pass in which something is done at a layer."""
        meant, path = named_layer(self.model, layer)
        call = self.call_of(layer)
        self._calls.clear()

        def watch(_: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if module is not meant or self._calls[id(module)] != call:
                return None
            return replace(module, inputs, output, path)

        with self._watched(watch):
            return run()

    def _admits(self, last: LastSpatial, name: str, module: nn.Module, *went: Any) -> bool:
        return not self.seen.attention(module, *went) and last.admits(name, module, *went)

    def _sparing(self, run: Run) -> Any:
        """The output of a pass whose graph, from the first leaf on, keeps little."""
        with sparing_later() as self._spare:
            return run()

    @contextmanager
    def _watched(self, watch: Callable[..., Any], names: Sequence[str] = ()) -> Iterator[None]:
        """Call ``watch`` as each layer ends; of named ones that are known, as these alone end."""

        def noting(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if self._aside:
                return None
            if self._open:
                self._calls[id(module)] += 1
                self.seen.note(name, module, inputs, output)
            return watch(name, module, inputs, output)

        if names and all(name in self._on_grids for name in names):
            meant = [(split_name(name)[0], named_layer(self.model, name)[0]) for name in names]
            modules = [*{id(module): (name, module) for name, module in meant}.values()]
        else:
            modules = [(name, module) for name, module in modules_of(self.model) if name]
        with watching(modules, noting):
            yield

    def _remembered(self, taps: list[Tapped], leaves: Mapping[str, _Leaf]) -> list[Tapped]:
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

    def _layout(
        self, name: str, module: nn.Module, inputs: tuple[Any, ...], tensor: Tensor
    ) -> Layout:
        """Where the cells of a tensor that has just been put out lie.

        Raises:
            ValueError: when it has none, or that can't be told.
        """
        if name in self._on_grids and tensor.ndim == self.image.ndim:
            return Layout(self._on_grids[name].channels_last)
        shape = tuple(tensor.shape)
        if self.seen.attention(module, inputs, tensor):
            raise ValueError(
                f"layer {name!r} puts out weights among tokens {shape}, which have no place in the "
                f"image; choose another layer"
            )
        last = self.seen.channels_last(name, module, tensor)
        if tensor.ndim != 3 or (self.image.ndim == 3 and not last):
            return Layout(last)
        # Another pass inside this one, whose hooks look away meanwhile.
        self._aside = True
        try:
            whole = split_name(name)[0]
            found = tokens_of(self.model, whole, shape, self.image, self._ask, self._key)
        finally:
            self._aside = False
        return Layout(tokens=found)

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

    def _is_early(self, name: str, module: nn.Module) -> bool:
        """Whether the call that counts is one of the next: no graph need be recorded until then."""
        known = self._on_grids.get(name)
        # A checkpoint runs some of the calls again, and must meet the same.
        return known is not None and self._calls[id(module)] < known.call and not in_checkpoint()

    def _become_leaf(
        self,
        name: str,
        module: nn.Module,
        output: Tensor,
        layout: Layout,
        behind: bool,
        shared: bool = False,
    ) -> Tensor:
        leaf, onwards = leaf_of(output, behind, shared)
        # A checkpointed layer runs again in the backward pass: the same steps, nothing to note.
        if self._open:
            self._spare()
            call = self._calls[id(module)]
            self.leaves[name] = _Leaf(leaf, output, layout, leaf._version, call)
        return onwards

    def _tapped(self, name: str, leaves: dict[str, _Leaf], gradients: list[list[Tensor]]) -> Tapped:
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

    def _scores(self, output: Any, targets: Targets) -> list[Tensor]:
        if not torch.is_grad_enabled():
            return []
        return [checked_scores(each, output, len(self.image)) for each in targets]


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    values = output.values() if isinstance(output, Mapping) else output
    for each in values if isinstance(output, Mapping | list | tuple) else ():
        yield from _tensors(each)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _ends_of(model: nn.Module) -> list[str]:
    """The modules that were registered last; none of a classifier, which ends with a linear one."""
    weighing = [each for each in model.modules() if each._parameters]
    if weighing and isinstance(weighing[-1], nn.Linear):
        return []
    return [name for name, each in modules_of(model) if name and not each._modules][-_ENDS:]
