"""Searching: one forward pass that finds the default layer, and taps it at once where it can."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medsal.probe.gradients.graph import UnrelatedError, differentiated, place_of
from medsal.probe.gradients.sparing import Sparing
from medsal.probe.taps.default import LastSpatial
from medsal.probe.taps.layout import Layout
from medsal.probe.taps.memory import remember_written
from medsal.probe.taps.passes import Run
from medsal.probe.taps.tapping import Leaf, Tapped, TappedPass, Targets
from medsal.probe.visits.inventory import modules_of

# How many modules that were registered last may be a segmentation's last block.
_ENDS = 5


class SearchedPass(TappedPass):
    """A pass that finds the default layer."""

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
        kept: list[Leaf] = []
        ends = _ends_of(self.model)

        def watch(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            if not self._open or not self._admits(last, name, module, inputs, output):
                return None
            layout = Layout(self.seen.channels_last(name, module, output))
            onwards = self._become_leaf(name, module, output, layout)
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
