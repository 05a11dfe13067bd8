"""How long an import takes once torch is there, beside that of torch itself."""

import os
import statistics
import subprocess
import sys

_CODE = """
import time
start = time.process_time()
import torch
between = time.process_time()
import {}
print(between - start, time.process_time() - between)
"""


def import_time(module: str, repeats: int) -> tuple[float, float]:
    """The ratio to the time that torch's own import takes, and the time [s of the processor]."""
    _times(module)  # writes the bytecode, where there is none
    times = [_times(module) for _ in range(repeats)]
    ratio = statistics.median(own / torch for torch, own in times)
    return ratio, statistics.median(own for _, own in times)


def _times(module: str) -> tuple[float, float]:
    # With bytecode, as installed packages have it.
    settings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    asked = [sys.executable, "-c", _CODE.format(module)]
    found = subprocess.run(asked, env=settings, capture_output=True, text=True, check=True)
    one, two = found.stdout.split()[-2:]
    return float(one), float(two)
