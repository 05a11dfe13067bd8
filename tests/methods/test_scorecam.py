"""Score-CAM with passes for some of the channels: how many, and what comes of the others."""

import pytest
import torch
from method_nets import CONV, images, probe, seeded
from torch import nn

import medsal
from medsal import METHODS, ClassScore, Probe

CHANNELS = 48


class Wide(nn.Module):
    """Many channels on few cells, and a head that is not linear; counts the samples it sees."""

    def __init__(self, axes=2, dead=0):
        super().__init__()
        self.first = nn.Sequential(CONV[axes](2, 8, 3, stride=2, padding=1), nn.Softplus())
        self.features = nn.Sequential(
            CONV[axes](8, CHANNELS, 3, stride=2, padding=1), nn.Softplus()
        )
        self.dead = dead
        self.last = nn.Linear(CHANNELS, 3)
        self.calls = 0

    def forward(self, image):
        self.calls += len(image)
        return self.last(self.features(self.first(image)).flatten(2).mean(2)).tanh()


def wide(axes=2, dead=0):
    net = seeded(Wide(axes))
    with torch.no_grad():
        net.features[0].bias[:dead] = -1e3
        net.last.weight.mul_(0.1)
    return net


def method(**options):
    return METHODS["scorecam"](layer="features", signed=True, **options)


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("softmax", [True, False])
def test_the_map_stays(axes, softmax):
    net, image = wide(axes), images(axes)
    asked = Probe(net, (ClassScore(0), ClassScore(2)))
    whole = method(softmax=softmax)(asked, image)
    assert not asked.record.notes
    before = net.calls
    some = method(softmax=softmax, agreement=0.995)(asked, image)
    assert net.calls - before < 0.8 * before
    for a, b in zip(whole.flatten(0, 1), some.flatten(0, 1), strict=True):
        assert correlation(a, b) > 0.99
        assert not torch.equal(a, b)


@pytest.mark.parametrize(
    ("agreement", "dead", "passes"),
    [
        (0.5, 0, 16),
        (1.0, 0, CHANNELS),
        (1.0, 20, CHANNELS - 20 + 1),  # one for all that are constant
        (0.999999999, 20, CHANNELS - 20 + 1),  # more than can be predicted
        (0.5, CHANNELS, 1),
    ],
)
def test_as_many_passes_as_it_takes(agreement, dead, passes):
    net = wide(dead=dead)
    asked = probe(net)
    assert method(agreement=agreement)(asked, images()[:1]).isfinite().all()
    assert net.calls == 1 + passes  # the first one finds the activations
    if passes == min(CHANNELS, CHANNELS - dead + 1):
        assert not asked.record.notes
    else:
        said = f"Score-CAM asked for the scores of {passes} of {CHANNELS} channels and predicted "
        (note,) = asked.record.notes
        assert note.startswith(said + "the others; the map is expected to correlate to 0.")


def test_the_result_tells_of_it():
    result = medsal.explain(wide(), images(), 1, "scorecam", layer="features", agreement=0.9)
    assert any("predicted the others" in note for note in result.notes)


def test_constant_channels_are_predicted_with_the_others():
    net, image = wide(dead=10), images()
    whole, some = (method(agreement=each)(probe(net), image) for each in (1.0, 0.99))
    assert 0.99 < correlation(whole, some) < 1


def test_samples_do_not_mix_and_nothing_is_drawn():
    net, image = wide(), images(samples=3)
    before = torch.random.get_rng_state()
    chosen = method(agreement=0.9)
    found = chosen(probe(net, 0, 2), image)
    assert torch.equal(found, chosen(probe(net, 0, 2), image))
    assert torch.equal(before, torch.random.get_rng_state())
    for i in range(3):
        alone = chosen(probe(net, 0, 2), image[i : i + 1])
        assert torch.allclose(found[i : i + 1], alone, rtol=1e-9, atol=1e-12)


def test_of_two_notes_the_worse_one_stays():
    net, image = wide(), images()
    asked = probe(net)
    expected = []
    for each in (image[:1], image[1:], image[:1]):
        method(agreement=0.5)(asked, each)
        alone = probe(net)
        method(agreement=0.5)(alone, each)
        expected.append((float(alone.record.notes[0].split()[-7]), *alone.record.notes))
        assert asked.record.notes == (min(expected)[1],)
    assert expected[0][0] != expected[1][0]


@pytest.mark.parametrize("agreement", [0, -0.1, 1.01, float("nan")])
def test_an_agreement_is_checked(agreement):
    with pytest.raises(ValueError, match="agreement as a correlation above 0"):
        METHODS["scorecam"](agreement=agreement)


@pytest.mark.parametrize("agreement", [1.0, 0.9])
def test_what_is_not_finite_is_told(agreement):
    net = wide()
    with torch.no_grad():
        net.features[0].bias[3] = torch.inf
    with pytest.raises(ValueError, match=r"expected finite scores, ClassScore\(index=1\) gave"):
        medsal.explain(net, images(), 1, "scorecam", layer="features", agreement=agreement)
