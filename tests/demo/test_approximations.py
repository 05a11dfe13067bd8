"""What an option saves on a trained network, and that the map stays the same."""

import pytest
import torch

import medsal
from medsal.demo.evaluate import load_network
from medsal.demo.samples import LesionDataset


@pytest.mark.parametrize("share", [0.5, 0.3])
@pytest.mark.parametrize("sample", [0, 1])
def test_scorecam_of_some_of_the_channels(sample: int, share: float) -> None:
    network = load_network()
    given = LesionDataset(2, ["colin27"], seed=5, window=(64, 64, 64))[sample]
    maps = [
        medsal.explain(network, given["image"][None], given["label"], "scorecam", share=each).data
        for each in (1.0, share)
    ]
    assert float(torch.corrcoef(torch.stack([each.flatten() for each in maps]))[0, 1]) > 0.99
