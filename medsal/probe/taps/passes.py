"""One forward pass of a model, watched: which layers it meets, how often, what they put out."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from medsal.probe.taps.default import LastSpatial
from medsal.probe.taps.layers import Layer, Sightings, named_layer, watching
from medsal.probe.taps.layout import Layout
from medsal.probe.taps.memory import remembered_on_grids
from medsal.probe.taps.parts import split_name
from medsal.probe.taps.tokens import tokens_of
from medsal.probe.visits.inventory import modules_of

Run = Callable[[], Any]


class Pass:
    """One forward pass of a model, watched.

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
        self._ask, self._key = ask, key
        self._open, self._aside = True, False
        self._calls: Counter[int] = Counter()
        self._on_grids = remembered_on_grids(model, key)

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

    def _admits(self, last: LastSpatial, name: str, module: nn.Module, *went: Any) -> bool:
        return not self.seen.attention(module, *went) and last.admits(name, module, *went)

    def _counts(self, met: bool, output: Tensor) -> bool:
        """Whether a call is the one that a layer's name means: the last one on a grid.

        A shared activation is called several times, in the head as well.

        Args:
            met: whether a call was that already.
            output: what the module has put out now.
        """
        return not met or output.ndim == self.image.ndim

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
