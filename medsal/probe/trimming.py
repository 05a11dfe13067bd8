"""Free memory given back to the system while a gradient is computed.

Between large tensors that come and go, the small ones of a graph stay, and glibc's allocator can
then neither join what is free nor give it back: DenseNet121's peak was seen to double. Asked to, it
does give back. Where there is no glibc, nothing happens.
"""

import ctypes
import sys
import threading
from typing import Any

from torch import Tensor

# How many bytes are made until free memory is given back: what comes next is mapped anew, page by
# page, which has its price.
_EVERY = 2**27
_trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
_made = threading.local()


def made(tensor: Tensor) -> Tensor:
    """Count a step's result; after many bytes of them, give back what is free."""
    if _trim and tensor.device.type == "cpu":
        _made.bytes = getattr(_made, "bytes", 0) + tensor.nbytes
        if _made.bytes > _EVERY:
            _made.bytes = 0
            _trim(0)
    return tensor
