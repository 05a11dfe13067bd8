"""What an option saves on a trained network, and that the map stays the same."""

import pytest
import torch

import medsal
from medsal.demo.evaluate import load_network
from medsal.demo.samples import LesionDataset


@pytest.mark.parametrize("agreement", [0.99, 0.9])
@pytest.mark.parametrize("sample", [0, 1])
def test_scorecam_of_some_of_the_channels(sample: int, agreement: float) -> None:
    network = load_network()
    given = LesionDataset(2, ["colin27"], seed=5, window=(64, 64, 64))[sample]
    label, options = given["label"], {"method": "scorecam", "signed": True}
    full, some = (
        medsal.explain(network, given["image"][None], label, agreement=each, **options)
        for each in (1.0, agreement)
    )
    assert not full.notes
    assert "predicted the others" in some.notes[0]
    maps = torch.stack([each.data.flatten() for each in (full, some)])
    assert float(torch.corrcoef(maps)[0, 1]) > agreement
