"""Predicted scores against known ones, and the closed forms against their definitions."""

import pytest
import torch

from medsal.methods.surrogate import (
    Survey,
    correlations,
    likeness,
    predicted,
    scores_by_some,
    spread,
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def masks_of(channels):
    low, high = channels.amin(-1, keepdim=True), channels.amax(-1, keepdim=True)
    return (channels - low) / (high - low)


def asking(scores, seen=None):
    def ask(channels):
        if seen is not None:
            seen.extend(channels.tolist())
        return scores.gather(1, channels[..., None].expand(-1, -1, scores.shape[2]))

    return ask


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def some(channels, ask, agreement=0.99, softmax=False, rectified=False):
    return scores_by_some(channels, ask, agreement, softmax, rectified)


def map_of(scores, channels, softmax, rectified):
    """Of one sample and target."""
    found = (scores.softmax(0) if softmax else scores) @ channels
    return found.relu() if rectified else found


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("rectified", [True, False])
def test_the_map_agrees_as_expected(softmax, rectified):
    channels = drawn(1, 200, 12)
    scores = 3 * (masks_of(channels) @ drawn(12, 2, seed=1))
    found, asked, expected = some(channels, asking(scores), 0.95, softmax, rectified)
    assert asked < 160
    assert 0.95 <= expected < 1
    for t in range(2):
        maps = [map_of(each[0, :, t], channels[0], softmax, rectified) for each in (found, scores)]
        assert correlation(*maps) > 0.95


def test_the_more_agreement_the_more_passes():
    channels = drawn(1, 200, 12)
    scores = (masks_of(channels) @ drawn(12, 1, seed=1)).sin()
    passes = [some(channels, asking(scores), each)[1] for each in (0.5, 0.9, 0.99, 1 - 1e-15)]
    assert passes == sorted(set(passes))
    assert passes[-1] == 200


def test_noise_is_not_predicted():
    channels, scores = drawn(1, 60, 5), drawn(1, 60, 1, seed=1)
    found, asked, expected = some(channels, asking(scores))
    assert (asked, expected) == (60, 1)
    assert torch.equal(found, scores)


def test_a_channel_like_another_scores_like_it():
    half = drawn(1, 40, 6)
    channels = torch.cat([half, 3 * half + 7], 1)
    scores = masks_of(channels).square().sum(2, keepdim=True).sin()
    seen = []
    found, *_ = some(channels, asking(scores, seen), 0.99999)
    first = [each % 40 for each in seen[0] + seen[1]]
    assert len(set(first)) == len(first)
    assert torch.allclose(found, scores, atol=1e-2)


@pytest.mark.parametrize("softmax", [True, False])
def test_passes_are_spent_once_and_known_scores_stay(softmax):
    channels, scores, seen = drawn(3, 90, 5), drawn(3, 90, 2, seed=1), []
    scores[0] = 1  # done at once, and asked nothing new thereafter
    found, asked, _ = some(channels, asking(scores, seen), softmax=softmax)
    assert asked == 16  # of those that agree in full, the one that took the fewest
    for i in range(3):
        mine = [each for some in seen[i::3] for each in some]
        assert len(set(mine)) == (16 if i == 0 else len(mine))
        assert torch.equal(found[i, mine], scores[i, mine])


def test_samples_do_not_mix():
    channels = drawn(3, 120, 8)
    scores = (
        masks_of(channels) @ drawn(8, 1, seed=1) * torch.tensor([1, 4, 9])[:, None, None]
    ).sin()
    whole = some(channels, asking(scores), 0.9)
    alone = [some(channels[i : i + 1], asking(scores[i : i + 1]), 0.9) for i in range(3)]
    assert torch.equal(whole[0], torch.cat([each[0] for each in alone]))
    assert len({each[1] for each in alone}) > 1
    assert whole[1:] == min((each[1:] for each in alone), key=lambda each: each[1])


def test_with_the_softmax_passes_go_where_scores_are_large():
    channels = drawn(1, 80, 4)
    scores = 20 * masks_of(channels)[..., :1]
    largest = set(scores[0, :, 0].topk(10).indices.tolist())
    met = {}
    for softmax in (True, False):
        survey = Survey(channels[0], softmax, False)
        for goal in (16, 32):
            survey.learn(scores[0, survey.choose(goal)])
        met[softmax] = len(largest & set(survey.asked))
    assert met[True] >= 8 > met[False]


def test_scores_that_are_all_the_same_and_channels_that_are():
    channels, scores = drawn(2, 40, 5), torch.full((2, 40, 1), 3.0).double()
    found, asked, agreement = some(channels, asking(scores), softmax=True)
    assert torch.equal(found, scores)
    assert (asked, agreement) == (16, 1)
    alike = channels[:, :1].expand(-1, 40, -1)
    assert torch.allclose(some(alike, asking(scores))[0], scores)


def test_predictions_and_their_errors_are_what_they_say():
    kernel, scores = likeness(drawn(20, 4)), drawn(8, 2, seed=1)
    asked, rest = [3, 1, 4, 15, 9, 2, 6, 5], [0, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 19]
    root = torch.linalg.cholesky(kernel + 1e-9 * torch.eye(20).double())
    prior = root @ drawn(20, 40_000, seed=2), drawn(20, 40_000, seed=3)
    mean, apart = predicted(kernel, asked, scores, prior)
    whole = kernel[asked][:, asked]
    for t in range(2):
        level, spread = scores[:, t].mean(), scores[:, t].std(correction=0)

        def left_out(noise, i, t=t, level=level):
            others = [j for j in range(8) if j != i]
            inner = whole[others][:, others] + noise * torch.eye(7).double()
            gain = torch.linalg.solve(inner, whole[others, i])
            variance = whole[i, i] + noise - gain @ whole[others, i]
            return scores[i, t] - level - gain @ (scores[others, t] - level), variance

        noises = [10.0**i for i in range(-8, 2)]
        errors = [torch.tensor([left_out(noise, i) for i in range(8)]) for noise in noises]
        best = min(range(10), key=lambda i: float(errors[i][:, 0].square().mean()))
        inner = whole + noises[best] * torch.eye(8).double()
        gain = torch.linalg.solve(inner, kernel[asked]).T
        assert torch.allclose(mean[:, t], level + gain @ (scores[:, t] - level), atol=1e-6)
        off, variance = errors[best].T / torch.tensor([spread, 1])[:, None]
        size = spread * (off.square() / variance).mean().sqrt()
        left = kernel - gain @ kernel[asked] + noises[best] * torch.eye(20).double()
        found = torch.cov(apart[rest, t])
        assert torch.allclose(found, size**2 * left[rest][:, rest], atol=0.05 * float(size**2))
        assert found.diagonal().max() > 0.2 * size**2


def test_the_correlation_of_what_does_not_vary():
    same = torch.full((1, 3), 0.1).double().cumsum(1) - torch.tensor([0.1, 0.2, 0.3]).double()
    assert same.any()  # but for rounding
    assert correlations(same + 1, torch.ones(1, 3).double()).tolist() == [1]
    a, b = (
        torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 2, 3]]),
        torch.tensor([[0.0, 0], [1, 2], [3, 5]]),
    )
    assert correlations(a[:2, :2], b[:2]).tolist() == [1, 0]
    assert correlations(a[2], torch.tensor([3.0, 2, 1])) == pytest.approx(-1)


def test_the_variance_that_is_left():
    kernel = likeness(drawn(12, 4))
    chosen, left = spread(kernel, torch.ones(12).double(), 5, [7])
    assert chosen[0] == 7
    within = kernel[:, chosen] @ torch.linalg.solve(kernel[chosen][:, chosen], kernel[chosen])
    assert torch.allclose(left, (kernel - within).diagonal(), atol=1e-6)
    counts = torch.zeros(12).double()
    counts[5] = 1
    assert spread(kernel, counts, 1, [])[0] == [5]
