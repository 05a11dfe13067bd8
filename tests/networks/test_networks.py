"""Methods on MONAI's networks: the right map or the right refusal, and no trace.

All methods on all networks take minutes: `python -m tests.networks.matrix`, whose table is
tutorials/networks.md. Here every network meets the methods that the others are made of.
"""

import warnings

import pytest

from tests.networks.matrix import build, outcome
from tests.networks.zoo import ZOO

METHODS = ("gradcam", "hirescam", "gradient", "guided_backprop")


@pytest.mark.parametrize("name", ZOO)
def test_right_or_refused(name: str) -> None:
    entry = ZOO[name]
    with warnings.catch_warnings():
        # MONAI and torch warn of their own affairs as they build a network.
        warnings.simplefilter("ignore")
        network = build(entry)
        found = {method: outcome(entry, network, method) for method in METHODS}
    refused = found.pop("guided_backprop")
    assert set(found.values()) == {"right"}, found
    if entry.guided:
        assert refused == "right"
    else:
        assert "defined for ReLU alone" in refused
