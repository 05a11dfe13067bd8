"""Later passes that run only what a change reaches; the rest is that of the clean pass.

The network's own code runs again, on shadows: tensors that stand for those of the clean pass, with
their shape and type, and know where they differ. A call of which nothing changed gives its shadow;
one that changed in a box is run on the box (`local`); of any other the operands are put together
and it runs as ever. A shadow means the same whatever the network does afterwards, so a pass that
takes another way through the network's code is right too, only slower.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from medsal.probe.replays.boxes import Box, gathered, repeated
from medsal.probe.replays.local import SHARE
from medsal.probe.replays.recording import Call, Entry, Outside, Recording, tail_of, written_by
from medsal.probe.replays.shadows import OddError, Shadow, run_in_full
from medsal.probe.replays.spread import Spread, joined, spread

aten: Any = torch.ops.aten


class Replay(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows a later pass, call by call beside the clean one.

    Args:
        calls: of the clean pass.
        tail: the call from which on nothing is left of them.
        samples: of the clean pass.
        times: how often what goes on from a changed layer repeats them.
    """

    def __init__(self, calls: Sequence[Call], tail: int, samples: int, times: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls, self.samples, self.times = calls, samples, times
        self._tail = tail
        self._paused = False
        # Whether the network went another way, or needs what was not kept.
        self.lost, self.odd = False, False
        self._at = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What runs inside is no part of the pass."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._paused:
            return run_in_full(func, args, kwargs or {})
        if self._at >= self._tail and Shadow not in types:
            return func(*args, **(kwargs or {}))
        try:
            return self._answer(func, args, kwargs or {})
        except OddError:
            # The network's code may take the error for one of its own.
            self.odd = True
            raise

    def _answer(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        leaves, spec = spread(args, kwargs)
        call = self.calls[self._at] if self._at < len(self.calls) and not self.lost else None
        self._at += 1
        if call is None or call.func is not func or call.spec != spec:
            self.lost = True
            return self._in_full(func, leaves, spec, shared=True)
        met = [_meets(now, then) for now, then in zip(leaves, call.leaves, strict=True)]
        shadows = [each for each in leaves if isinstance(each, Shadow)]
        if not all(met) or any(each.whole is not None for each in shadows):
            return self._in_full(func, leaves, spec, call.shared)
        if not any(each.reached for each in shadows):
            return self._given(call, leaves)
        if call.shared:
            raise OddError
        step = call.step(leaves) if all(not each.spoiled for each in shadows) else None
        if step is None or step.box.share(call.grid) > SHARE:
            return self._in_full(func, leaves, spec, call.shared)
        return self._given(call, leaves, step.box, step.run())

    def _given(
        self, call: Call, leaves: Sequence[Any], box: Box | None = None, patch: Tensor | None = None
    ) -> Any:
        """Shadows of what the call made."""
        outputs: list[Any] = []
        written = [leaves[i] for i in call.written]
        for i, made in enumerate(call.outputs):
            if not isinstance(made, Entry):
                outputs.append(made)
            elif i == 0 and len(written) == 1:
                written[0].become(made, box, patch)
                outputs.append(written[0])
            else:
                samples = len(patch) if patch is not None and i == 0 else None
                shadow = Shadow(made, *((box, patch) if i == 0 else ()), samples=samples)
                shadow.spoiled = bool(i and box)
                outputs.append(shadow)
        ((result,), _) = joined(outputs, call.out_spec)
        return result

    def _in_full(self, func: Any, leaves: list[Any], spec: Spread, shared: bool) -> Any:
        written = written_by(func, len(leaves), spec)
        if shared and any(isinstance(leaves[i], Shadow) for i in written):
            # A view of it may have been met before.
            raise OddError
        args, kwargs = joined(self._repeated(func, leaves), spec)
        return run_in_full(func, args, kwargs)

    def _repeated(self, func: Any, leaves: list[Any]) -> list[Any]:
        """Clean operands, repeated where the others hold a changed layer of more samples."""
        many = self.samples * self.times
        foreign = [
            each for each in leaves if type(each) is Tensor and each.ndim and len(each) == many
        ]
        joins = func is aten.cat.default or torch.Tag.pointwise in func.tags
        if self.times == 1 or not joins or not foreign:
            return leaves
        return [
            repeated(each.dense(), many)
            if isinstance(each, Shadow)
            and each.ndim == foreign[0].ndim
            and len(each) == self.samples
            else each
            for each in leaves
        ]


def _meets(now: Any, then: Any) -> bool:
    """Whether a call's argument stands for that of the clean pass."""
    if isinstance(then, Entry):
        return isinstance(now, Shadow) and now.entry is then
    if isinstance(then, Outside):
        if not isinstance(now, Tensor) or isinstance(now, Shadow):
            return False
        if now is then.tensor:
            return now._version == then.version
        return _is_constant(now) and _is_constant(then.tensor) and torch.equal(now, then.tensor)
    return type(now) is type(then) and bool(now == then)


def _is_constant(x: Tensor) -> bool:
    """Whether it may be a number that the network's code makes in each pass."""
    return not x.ndim and x.device.type == "cpu"


@dataclass(eq=False)
class CleanPass:
    """A model's pass at an image, of which later ones run only what a change reaches.

    Attributes:
        image: ``(n, c, *s)``.
        output: the model's.
        recording: the calls.
    """

    image: Tensor
    output: Any
    recording: Recording

    def patched(self, ask: Callable[[Tensor], Any], patch: Tensor, box: Box) -> Any:
        """The output for images that differ from this one in a box.

        Args:
            ask: the model's pass.
            patch: what stands in the box, ``(samples, c, *size)``, for a multiple of n samples.
            box: where.
        """

        def again() -> Any:
            shadow = Shadow(self.recording.image, box, patch, samples=len(patch))
            return self._replayed(lambda _: ask(shadow), 1)

        return self._or_in_full(again, lambda: ask(gathered(self.image, patch, box)))

    def changed(
        self, run: Callable[[Tensor, Any], Any], in_full: Callable[[], Any], times: int
    ) -> Any:
        """The output when a layer's output is changed.

        Args:
            run: the model's pass that changes the layer, at an image and with `Replay.aside`.
            in_full: the same without anything kept.
            times: how often what goes on repeats the samples.
        """

        def again() -> Any:
            shadow = Shadow(self.recording.image)
            return self._replayed(lambda replay: run(shadow, replay.aside), times)

        return self._or_in_full(again, in_full)

    def _replayed(self, run: Callable[[Replay], Any], times: int) -> Any:
        calls = self.recording.calls
        replay = Replay(calls, tail_of(calls), len(self.image), times)
        with replay:
            output = run(replay)
        if replay.odd:
            raise OddError
        return tree_map(lambda each: each.dense() if isinstance(each, Shadow) else each, output)

    def _or_in_full(self, again: Callable[[], Any], in_full: Callable[[], Any]) -> Any:
        if not self.recording.unfit:
            try:
                return again()
            except Exception as error:
                self.recording.unfit = f"{type(error).__name__}: {error}"
        return in_full()
