"""Training runs by the bundle's own configuration, and repeats."""

import pytest
import torch

from medsal.demo.evaluate import load_network
from medsal.demo.train import train

pytest.importorskip("nilearn")
SMALL = {
    "batches": [1, 1, 1],
    "batch_sizes": [3, 3, 3],
    "windows": [[32, 32, 32], [32, 40, 32], [40, 40, 40]],
    "val_samples": 3,
    "num_workers": 0,
    "heads": ["s1"],
}


def test_three_batches_train_the_same_weights_twice(tmp_path):
    threads = torch.get_num_threads()
    states = []
    try:
        for name in ("first", "second"):
            weights = train(tmp_path / name, seed=1, **SMALL)
            states.append(torch.load(weights, weights_only=True))
    finally:
        torch.set_num_threads(threads)
    assert states[0].keys() == load_network().state_dict().keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert all(torch.isfinite(value).all() for value in states[0].values())
