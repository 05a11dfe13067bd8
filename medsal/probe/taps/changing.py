"""Changing: one forward pass in which a layer's output is shown or replaced, at one call of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from medsal.probe.taps.layers import named_layer
from medsal.probe.taps.memory import remember_call, remembered_call
from medsal.probe.taps.parts import Path, chosen_part, split_name, with_part
from medsal.probe.taps.passes import Pass, Run


class ChangedPass(Pass):
    """A pass in which something is done at a layer."""

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
        """Which of a module's calls in a pass a layer is; where it is not known, found in a pass.

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
                if self._counts(bool(met), chosen):
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
