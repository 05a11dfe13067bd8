"""The table: who needs how much of what, beside the first of each group."""

import argparse
import importlib.util
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from tests.benchmarks.cost.contenders import (
    CT,
    CT_NETS,
    CT_SHAPE,
    HUNDREDS,
    IMPORT,
    MANY,
    MODULES,
    NETS,
    RUNS,
)
from tests.benchmarks.cost.importing import import_time
from tests.benchmarks.cost.measure import send

# How long one process may take [s].
_LIMIT = 900


@dataclass(frozen=True)
class Row:
    """What one contender needs, as ratios to the one that it is held against."""

    what: str
    net: str
    size: str
    who: str
    against: str
    memory_size: str = ""
    flops: float | None = None
    time: float | None = None
    peak: float | None = None
    live: float | None = None
    kept: float | None = None
    same: float | None = None
    note: str = ""

    def __str__(self) -> str:
        numbers = [("FLOPs", self.flops), ("time", self.time), ("peak memory", self.peak)]
        numbers += [("live tensors", self.live)]
        told = [f"{name} {value:.2f}x" for name, value in numbers if value is not None]
        told += [f"kept {self.kept:.0f} MiB"] if self.kept is not None else []
        told += [f"same to {self.same:.3f}"] if self.same is not None else []
        head = f"{self.what} | {self.net} {self.size} | {self.who} against {self.against}"
        return f"{head}: {', '.join(told)}{self.note and ' ' + self.note}"


def child(asked: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own measured; of one that crashed, its last words."""
    # A copy of this process, with everything loaded; CUDA can't be copied.
    context = multiprocessing.get_context("fork" if asked["device"] == "cpu" else "spawn")
    here, there = context.Pipe(False)
    process = context.Process(target=send, args=(there, asked))
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv() if here.poll(_LIMIT) else {"crash": "takes too long"}
    except EOFError:
        found = {"crash": "the process was ended: out of memory"}
    process.kill()
    process.join()
    return found


Key = tuple[str, ...]


def key_of(row: Row) -> Key:
    """What tells a row from the others of a table."""
    return (row.what, row.net, row.size, row.memory_size, row.who)


def in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows that were measured in parts, as one table has them."""
    whats, nets = [*RUNS, IMPORT], ["", *NETS]

    def place(row: Row) -> tuple[int, ...]:
        contenders = [*RUNS.get(row.what, MODULES)]
        return whats.index(row.what), nets.index(row.net), contenders.index(row.who)

    return sorted(rows, key=place)


def rows(asked: argparse.Namespace, known: Mapping[Key, Row]) -> Iterator[Row]:
    """Each row as soon as it is measured; those that are known as they are."""
    if IMPORT in asked.what:
        heads = [Row(IMPORT, "", "", who, "import torch") for who in MODULES]
        yield from (known.get(key_of(each)) or _imported(each, asked.repeats) for each in heads)
    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    for what in [each for each in asked.what if each != IMPORT]:
        for net in [each for each in asked.nets if what != CT or each in CT_NETS]:
            small, large = shapes(asked, what, NETS[net][0])
            against, *others = RUNS[what]
            common = {"what": what, "net": net, "device": device, "threads": asked.threads}
            held: dict[str, Any] = {}
            for who in others:
                head = Row(what, net, _told(small or large), who, against, _told(large))
                if key_of(head) in known:
                    yield known[key_of(head)]
                    continue
                held = held or child({**common, "who": [against], "shape": large})
                yield _row(common, head, (small, large), asked.repeats, held)


def shapes(
    asked: argparse.Namespace, what: str, axes: int
) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """The images for times, and for the peaks of memory; of a whole CT one run has to do."""
    if what == CT:
        return None, CT_SHAPE
    size = asked.size if axes == 3 else asked.flat_size
    if what in HUNDREDS:
        size = 3 * size // 4  # two cells along an axis, where the stride is 32
    if what in MANY:
        return (size,) * axes, (size,) * axes
    larger = (asked.memory_size if axes == 3 else asked.flat_memory_size) or size
    return (size,) * axes, (larger,) * axes


def _absent(head: Row) -> str:
    """What to say where a contender's package is not installed; empty where it is."""
    name, module = MODULES[head.who.partition(",")[0]]
    there = importlib.util.find_spec(module.partition(".")[0])
    return "" if there else f"not installed: pip install {name}"


def _imported(head: Row, repeats: int) -> Row:
    if absent := _absent(head):
        return replace(head, note=absent)
    ratio, seconds = import_time(MODULES[head.who][1], repeats)
    return replace(head, time=ratio, note=f"{1000 * seconds:.0f} ms")


def _row(
    common: dict[str, Any],
    head: Row,
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...]],
    repeats: int,
    held: dict[str, Any],
) -> Row:
    small, large = shapes
    if absent := _absent(head):
        return replace(head, note=absent)
    time: dict[str, Any] = {}
    if small:
        both = [head.against, head.who]
        time = child({**common, "who": both, "shape": small, "repeats": repeats})
        if "crash" in time:
            return replace(head, note=f"crashes: {time['crash']}")
    memory = child({**common, "who": [head.who], "shape": large})
    ran = "peak" in memory and "peak" in held
    once = memory["seconds"] / held["seconds"] if ran and not small else None
    return replace(
        head,
        flops=time.get("flops"),
        time=time.get("ratio", once),
        peak=memory["peak"] / held["peak"] if ran else None,
        live=time.get("live"),
        kept=memory.get("kept"),
        same=time.get("same"),
        note=f"crashes: {memory['crash']}" if "crash" in memory else "",
    )


def _told(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
