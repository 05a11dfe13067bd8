"""Where a network is."""

from itertools import chain

import torch
from torch import nn


def device_of(model: nn.Module, default: torch.device) -> torch.device:
    """The device of a network's weights; of one without any, the default."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return default if first is None else first.device
