"""Free memory given back to the system while a gradient is computed.

Between large tensors that come and go, the small ones of a graph stay, and glibc's allocator can
then neither join what is free nor give it back: DenseNet121's peak was seen to double. Asked to, it
does give back; what comes next is then mapped anew, page by page, which takes time. So it is asked
where the pass itself has left much free. Where there is no glibc of 2021 (2.33) or later, nothing
happens.
"""

import ctypes
import os
import sys
import threading
from pathlib import Path
from typing import Any

from torch import Tensor

# After how many bytes that were made it is looked how much more is free than before; and how much
# is given back.
_EVERY, _MUCH = 2**25, 2**25
_PAGES = Path("/proc/self/statm")


class _Pass(threading.local):
    """What a thread's pass has made since it was last looked, and what was unused then."""

    made = 0
    before: int | None = None


_pass = _Pass()


class _State(ctypes.Structure):
    """What glibc's `mallinfo2` tells."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


def _allocator() -> Any:
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" and _PAGES.exists() else None
    if not (hasattr(library, "malloc_trim") and hasattr(library, "mallinfo2")):
        return None
    library.mallinfo2.restype = _State
    return library


_glibc = _allocator()


def begin() -> None:
    """A pass begins: what is free as it has made little is not its doing."""
    _pass.made, _pass.before = 0, None


def made(tensor: Tensor) -> Tensor:
    """Count a step's result; after many bytes of them, give back what the pass has left free."""
    if _glibc and tensor.device.type == "cpu":
        _pass.made += tensor.nbytes
        if _pass.made > _EVERY:
            _pass.made, unused = 0, _unused()
            if _pass.before is None:
                _pass.before = unused
            elif unused - _pass.before > _MUCH:
                _glibc.malloc_trim(0)
    return tensor


def _unused() -> int:
    """What the process holds beside what is allocated [bytes]: code, and what is free."""
    state = _glibc.mallinfo2()
    resident = int(_PAGES.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident - int(state.uordblks) - int(state.hblkhd)
