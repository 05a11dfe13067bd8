"""One measurement in a process of its own.

Time is that of the processor (one thread): other programs on the machine change it little. On CUDA
it is the clock's, after a synchronisation. Memory is the peak of the process's resident set above
what it held before the call, as the kernel counts it; on CUDA, torch's own peak.
"""

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
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.cost.contenders import RUNS, Case

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def flops(run: Callable[[Case], Any], case: Case) -> int | None:
    """Floating point operations; None where torch's counter can't follow a library's own hooks."""
    try:
        with FlopCounterMode(display=False) as counter:
            run(case)
    except RuntimeError:
        return None
    return counter.get_total_flops()


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
    return found | {"flops": two / one if one and two else None}


def correlation(a: Any, b: Any) -> float | None:
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.numel() != b.numel():
        return None
    both = torch.stack([each.detach().flatten().double().cpu() for each in (a, b)])
    return float(torch.corrcoef(both)[0, 1])


def _status(key: str) -> float:
    line = next(each for each in _STATUS.read_text().splitlines() if each.startswith(key))
    return int(line.split()[1]) / 1024


def peak(run: Callable[[Case], Any], case: Case) -> dict[str, float]:
    """The peak during the call and what is left after it, above what was held before [MiB]."""
    if case.image.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(case)
        held = torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()
        return {"peak": (held[0] - before) / 2**20, "kept": (held[1] - before) / 2**20}
    if not _CLEAR.exists():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        run(case)
        return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before}
    with torch.no_grad():  # what torch itself loads for a first pass
        case.net(case.image[(..., *(slice(32),) * (case.image.ndim - 2))])
    _CLEAR.write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    run(case)
    return {"peak": _status("VmHWM") - before, "kept": _status("VmRSS") - before}


def send(pipe: Connection, asked: dict[str, Any]) -> None:
    """Measure in this process, and send what was found, or why not."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked["threads"])
    try:
        case = Case(asked["net"], asked["size"], asked["device"])
        first, *second = (RUNS[asked["what"]][name] for name in asked["who"])
        found = times(first, second[0], case, asked["repeats"]) if second else peak(first, case)
    except Exception as error:
        found = {"crash": f"{type(error).__name__}: {error}".splitlines()[0][:110]}
    pipe.send(found)
