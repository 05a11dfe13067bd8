"""The clean pass, kept: which calls it made, of what, and the contents that later passes need.

Nothing of the network is replaced: a `TorchDispatchMode` sees the calls on tensors. Contents are
held only where a change meets what it does not change: what lies around the box that a convolution
looks at, the other operand of a sum.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from medsal.probe.replays.boxes import Box, representative
from medsal.probe.replays.local import SHARE, step_of
from medsal.probe.replays.spread import Spread, joined, spread

# How much a clean pass may keep [bytes].
_MOST = 2**31


@dataclass(eq=False)
class Entry:
    """A tensor of the clean pass.

    Attributes:
        clean_shape: its shape.
        strides: its own.
        dtype: likewise.
        device: likewise.
        met: the tensor itself, as long as someone holds it.
        reached: whether the change reaches it.
        box: where; None = everywhere, or nowhere.
        kept: its content, where a later pass needs it.
        overwritten: whether a step in place has put another tensor's content there.
    """

    clean_shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    met: "weakref.ReferenceType[Tensor]"
    reached: bool = False
    box: Box | None = None
    kept: Tensor | None = None
    overwritten: bool = False

    def keep(self) -> None:
        """Hold its content from now on."""
        if self.kept is None and not self.overwritten:
            self.kept = self.met()


@dataclass(frozen=True, eq=False)
class Outside:
    """A tensor that no call of the pass made: a parameter, a buffer, a constant."""

    tensor: Tensor
    version: int


@dataclass(eq=False)
class Call:
    """One call: of what, on which tensors and values, and what came out.

    Attributes:
        written: which of the leaves it writes to.
        shared: whether other tensors saw what it wrote.
    """

    func: Any
    leaves: list[Any]
    spec: Spread
    written: list[int]
    shared: bool = False
    outputs: list[Any] = field(default_factory=list)
    out_spec: Spread = ()

    @property
    def reached(self) -> bool:
        """Whether the change reaches an operand."""
        return any(isinstance(each, Entry) and each.reached for each in self.leaves)

    @property
    def grid(self) -> tuple[int, ...]:
        """Of the (first) output; empty where it has none."""
        made = self.outputs[0] if self.outputs else None
        return made.clean_shape[2:] if isinstance(made, Entry) else ()

    def step(self, leaves: Sequence[Any]) -> Any:
        """The call on boxes of these operands; None where it must be run on the whole."""
        if not self.grid:
            return None
        args, kwargs = joined(leaves, self.spec)
        return step_of(self.func, args, kwargs, self.grid)


def tail_of(calls: Sequence[Call]) -> int:
    """From which call on all that the change reaches has changed everywhere."""
    made = {id(each): i for i, call in enumerate(calls) for each in call.outputs}
    tail = 0
    for i, call in enumerate(calls):
        entries = [each for each in call.leaves if isinstance(each, Entry)]
        boxed = any(each.box is not None for each in entries)
        # What the change does not reach is made again, unless that was before.
        if boxed or any(not e.reached and made.get(id(e), -1) < tail for e in entries):
            tail = i + 1
    return tail


@cache
def _schema_of(func: Any) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names of its arguments, and of those that it writes to."""
    arguments = func._schema.arguments
    writes = (e.name for e in arguments if e.alias_info and e.alias_info.is_write)
    return tuple(e.name for e in arguments), frozenset(writes)


def written_by(func: Any, count: int, spec: Spread) -> list[int]:
    """Which of the leaves of its arguments a call writes to."""
    names, writes = _schema_of(func)
    if not writes:
        return []
    args, kwargs = joined(range(count), spec)
    named = dict(zip(names, args, strict=False)) | kwargs
    return spread([named[name] for name in writes & named.keys()], {})[0]


@cache
def _is_batch_norm(func: Any) -> bool:
    return "batch_norm" in str(func)


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the clean pass.

    Args:
        image: what goes into the model, a copy of its own.
        boxes: of it, those that later passes change; None = they change a layer, which `mark`
            tells.
    """

    def __init__(self, image: Tensor, boxes: Box | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        # Why later passes must run in full; empty where they need not.
        self.unfit = ""
        self._known: dict[int, Entry] = {}
        self._bytes = 0
        self._sharing: dict[int, list[weakref.ReferenceType[Tensor]]] = {}
        self.image = self._entry(image)
        if boxes is not None:
            # What any of them needs is kept.
            self.image.reached, self.image.box = True, representative(boxes)

    def mark(self, tensor: Tensor) -> None:
        """This tensor is what later passes change."""
        entry = self._found(tensor)
        if entry is None:
            self.unfit = "what is changed was made by no call"
        else:
            self._keep(entry)
            entry.reached = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.unfit:
            return func(*args, **(kwargs or {}))
        leaves, spec = spread(args, kwargs or {})
        noted = [self._noted(each) for each in leaves]
        call = Call(func, noted, spec, written_by(func, len(leaves), spec))
        written = [leaves[i] for i in call.written if isinstance(leaves[i], Tensor)]
        self._check(call, written)
        step = None
        if written:
            # As it is before it is written over.
            call.outputs = [noted[i] for i in call.written]
            step = self._keep_for(call)
        for tensor in written:
            call.shared |= self._overwrite(tensor)
        result = func(*args, **(kwargs or {}))
        self._conclude(call, written, result, step)
        return result

    def _check(self, call: Call, written: Sequence[Tensor]) -> None:
        if torch.Tag.nondeterministic_seeded in call.func.tags:
            self.unfit = f"{call.func} draws numbers"
        if any(self._found(each) is None for each in written):
            self.unfit = f"{call.func} writes to what the pass did not make"
        if _is_batch_norm(call.func) and call.leaves[3] is not None and call.leaves[5] is True:
            self.unfit = "a batch norm writes its statistics"

    def _conclude(self, call: Call, written: Sequence[Tensor], result: Any, step: Any) -> None:
        outputs, call.out_spec = spread([result], {})
        if len(written) > 1 or (written and written[0] is not outputs[0]):
            self.unfit = f"{call.func} writes to more than it gives back"
        call.outputs = [self._entry(e) if isinstance(e, Tensor) else e for e in outputs]
        if not written:
            step = self._keep_for(call)
        if call.reached:
            made = [each for each in call.outputs if isinstance(each, Entry)]
            for each in made:
                each.reached = True
            if step:
                made[0].box = step.box
        self.calls.append(call)

    def _keep(self, entry: Entry) -> None:
        """Hold a content; where that would be too much, hold none, and run later passes in full."""
        if self.unfit or entry.kept is not None:
            return
        entry.keep()
        self._bytes += entry.kept.nbytes if entry.kept is not None else 0
        if self._bytes > _MOST:
            self.unfit = f"later passes would need more than {_MOST} bytes of this one"
            for each in self._known.values():
                each.kept = None

    def _keep_for(self, call: Call) -> Any:
        """Keep what the change meets at a call; the call on boxes, None where there is none."""
        if not call.reached:
            return None
        entries = [each for each in call.leaves if isinstance(each, Entry)]
        shown = [each.tensor if isinstance(each, Outside) else each for each in call.leaves]
        local = all(each.box is not None or not each.reached for each in entries)
        step = call.step(shown) if local else None
        if step and step.box.least_share(call.grid) > SHARE:
            step = None
        # Of some boxes it may be run on boxes, of others on the whole.
        whole = step is None or step.box.share(call.grid) > SHARE
        for each in (*(step.needs if step else ()), *(entries if whole else ())):
            if each.box is not None or not each.reached:
                self._keep(each)
        return step

    def _noted(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return self._found(leaf) or Outside(leaf, leaf._version)

    def _found(self, tensor: Tensor) -> Entry | None:
        entry = self._known.get(id(tensor))
        return entry if entry is not None and entry.met() is tensor else None

    def _entry(self, tensor: Tensor) -> Entry:
        met = weakref.ref(tensor)
        strides: tuple[int, ...] = ()
        if tensor.layout != torch.strided:
            self.unfit = "a tensor is not strided"
        else:
            strides = tensor.stride()
            if self._found(tensor) is None:
                self._sharing.setdefault(_memory(tensor), []).append(met)
        entry = Entry(tuple(tensor.shape), strides, tensor.dtype, tensor.device, met)
        self._known[id(tensor)] = entry
        return entry

    def _overwrite(self, tensor: Tensor) -> bool:
        """Forget what is written over; whether other tensors see it."""
        entry = self._found(tensor)
        if entry is None:
            return True
        if entry.kept is tensor:
            entry.kept = tensor.clone()
        entry.overwritten = True
        others = [each() for each in self._sharing.get(_memory(tensor), ())]
        sharing = [o for o in others if o is not None and o is not tensor]
        sharing = [each for each in sharing if _memory(each) == _memory(tensor)]
        found = [self._found(each) for each in sharing]
        if any(each is not None and each.kept is not None for each in found):
            self.unfit = "a view of what is needed later is written to"
        return bool(sharing)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
