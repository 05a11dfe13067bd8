"""One measurement in a process of its own.

Time is that of the processor (one thread): other programs on the machine change it little. On CUDA
it is the clock's, after a synchronisation. Memory is the peak of the process's resident set above
what it held before the call, as the kernel counts it; on CUDA, torch's own peak. Beside it stand
the bytes of live tensors, which depend on no allocator.
"""

import math
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from tests.benchmarks.cost.contenders import RUNS, Case
from tests.benchmarks.cost.live import Live

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEMORY = Path("/proc/meminfo")


def _of_onednn(x: list[int], weight: list[int], *_: Any, out_shape: list[int], **__: Any) -> int:
    return conv_flop_count(x, weight, out_shape)


# A convolution that medsal asks oneDNN for by name, of which torch's counter does not know.
_ASKED_BY_NAME = {torch.ops.aten.mkldnn_convolution: _of_onednn}


def flops(run: Callable[[Case], Any], case: Case) -> int | None:
    """Floating point operations; None where torch's counter can't follow a library's own hooks."""
    try:
        with FlopCounterMode(display=False, custom_mapping=_ASKED_BY_NAME) as counter:
            run(case)
    except RuntimeError:
        return None
    return counter.get_total_flops()


def alive(run: Callable[[Case], Any], case: Case) -> int | None:
    """The peak of live tensors [bytes]; None where a library's own hooks can't be followed."""
    try:
        with Live() as found:
            run(case)
    except RuntimeError:
        return None
    return found.peak


def seconds(run: Callable[[Case], Any], case: Case) -> float:
    cuda = case.image.device.type == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
    start = clock()
    run(case)
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def times(first: Any, second: Any, case: Case, repeats: int) -> dict[str, Any]:
    """The medians of both, and of the ratios of neighbours in time."""
    maps = [run(case) for run in (first, second)]
    pairs = [(seconds(first, case), seconds(second, case)) for _ in range(repeats)]
    one, two = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    found = {"first": one, "second": two, "ratio": ratio, "same": correlation(*maps)}
    one, two = (flops(run, case) for run in (first, second))
    found["flops"] = two / one if one and two else None
    one, two = (alive(run, case) for run in (first, second))
    return found | {"live": two / one if one and two else None}


def correlation(a: Any, b: Any) -> float | None:
    """Of two maps of one grid; None for anything else, and where one is the same everywhere."""
    maps = [each.detach().squeeze() for each in (a, b) if isinstance(each, Tensor)]
    if len(maps) < 2 or maps[0].shape != maps[1].shape or maps[0].ndim < 2:
        return None
    both = torch.stack([each.flatten().double().cpu() for each in maps])
    found = float(torch.corrcoef(both)[0, 1])
    return None if math.isnan(found) else found


def _status(key: str) -> float:
    line = next(each for each in _STATUS.read_text().splitlines() if each.startswith(key))
    return int(line.split()[1]) / 1024


def peak(run: Callable[[Case], Any], case: Case) -> dict[str, float]:
    """What the call takes at its peak and keeps, above what was held before [MiB]; its time [s]."""
    if case.image.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        took = seconds(run, case)
        held = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
        peak, kept = ((each - before) / 2**20 for each in held)
        return {"peak": peak, "kept": kept, "seconds": took}
    if not _CLEAR.exists():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        took = seconds(run, case)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"peak": after - before, "seconds": took}
    with torch.no_grad():  # what torch itself loads for a first pass
        case.net(case.image[(..., *(slice(32),) * (case.image.ndim - 2))])
    _CLEAR.write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    took = seconds(run, case)
    peak, kept = (_status(key) - before for key in ("VmHWM", "VmRSS"))
    return {"peak": peak, "kept": kept, "seconds": took}


def _limit_memory() -> None:
    """More than there is raises an error, before the kernel ends this process or another one."""
    if _MEMORY.exists():
        line = next(e for e in _MEMORY.read_text().splitlines() if e.startswith("MemAvailable"))
        free = int(line.split()[1]) * 1024
        limit = int(_status("VmData") * 2**20) + int(0.9 * free)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def send(pipe: Connection, asked: dict[str, Any]) -> None:
    """Measure in this process, and send what was found, or why not."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked["threads"])
    try:
        _limit_memory()
        case = Case(asked["net"], asked["shape"], asked["device"])
        first, *second = (RUNS[asked["what"]][name] for name in asked["who"])
        found = times(first, second[0], case, asked["repeats"]) if second else peak(first, case)
    except Exception as error:
        found = {"crash": f"{type(error).__name__}: {error}".splitlines()[0][:110]}
    pipe.send(found)
