"""Predicted scores against known ones, and the closed forms against their definitions."""

import pytest
import torch

from medsal.methods.surrogate import likeness, predicted, scores_by_some, spread


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


@pytest.mark.parametrize("softmax", [True, False])
def test_scores_that_are_linear_in_the_mask(softmax):
    channels = drawn(1, 200, 4)
    scores = masks_of(channels) @ drawn(4, 2, seed=1)
    found, agreement = scores_by_some(channels, asking(scores), 90, softmax)
    for t in range(2):
        assert correlation(found[..., t], scores[..., t]) > 0.999
    assert agreement > 0.99


def test_a_channel_like_another_scores_like_it():
    half = drawn(1, 20, 6)
    channels = torch.cat([half, 3 * half + 7], 1)
    scores = masks_of(channels).square().sum(2, keepdim=True).sin()
    seen = []
    found, _ = scores_by_some(channels, asking(scores, seen), 20, False)
    assert sorted(each % 20 for each in seen[0]) == list(range(20))
    assert torch.allclose(found, scores, atol=1e-4)


@pytest.mark.parametrize("softmax", [True, False])
def test_passes_are_spent_once_and_known_scores_stay(softmax):
    channels, scores, seen = drawn(3, 30, 5), drawn(3, 30, 2, seed=1), []
    found, agreement = scores_by_some(channels, asking(scores, seen), 11, softmax)
    for i in range(3):
        mine = [each for some in seen[i::3] for each in some]
        assert len(set(mine)) == len(mine) == 11
        assert torch.equal(found[i, mine], scores[i, mine])
    assert agreement < 0.9  # noise can't be predicted


def test_with_the_softmax_passes_go_where_scores_are_large():
    channels = drawn(1, 80, 4)
    scores = 20 * masks_of(channels)[..., :1]
    largest = set(scores[0, :, 0].topk(10).indices.tolist())
    met = {}
    for softmax in (True, False):
        seen = []
        scores_by_some(channels, asking(scores, seen), 32, softmax)
        met[softmax] = len(largest & {each for some in seen for each in some})
    assert met[True] >= 8 > met[False]


def test_scores_that_are_all_the_same_and_channels_that_are():
    channels, scores = drawn(2, 20, 5), torch.full((2, 20, 1), 3.0).double()
    assert torch.equal(scores_by_some(channels, asking(scores), 5, True)[0], scores)
    assert scores_by_some(channels, asking(scores), 5, True)[1] == 1
    alike = channels[:, :1].expand(-1, 20, -1)
    found, _ = scores_by_some(alike, asking(scores), 5, False)
    assert torch.allclose(found, scores)


def test_leaving_one_out_is_what_it_says():
    kernel, scores = likeness(drawn(20, 4)), drawn(8, 1, seed=1)
    asked = [3, 1, 4, 15, 9, 2, 6, 5]
    mean, agreement = predicted(kernel, asked, scores)
    whole, level = kernel[asked][:, asked], scores.mean()

    def by_hand(noise, i):
        rest = [j for j in range(8) if j != i]
        inner = whole[rest][:, rest] + noise * torch.eye(7).double()
        return level + whole[i, rest] @ torch.linalg.solve(inner, scores[rest, 0] - level)

    noises = [10.0**i for i in range(-8, 2)]
    left = [torch.stack([by_hand(noise, i) for i in range(8)]) for noise in noises]
    best = min(range(10), key=lambda i: float((left[i] - scores[:, 0]).square().mean()))
    assert agreement == pytest.approx(correlation(left[best], scores[:, 0]), abs=1e-6)
    inner = whole + noises[best] * torch.eye(8).double()
    expected = level + kernel[:, asked] @ torch.linalg.solve(inner, scores - level)
    assert torch.allclose(mean, expected)


def test_the_variance_that_is_left():
    kernel = likeness(drawn(12, 4))
    chosen, left = spread(kernel, torch.ones(12).double(), 5, [7])
    assert chosen[0] == 7
    within = kernel[:, chosen] @ torch.linalg.solve(kernel[chosen][:, chosen], kernel[chosen])
    assert torch.allclose(left, (kernel - within).diagonal(), atol=1e-6)
    counts = torch.zeros(12).double()
    counts[5] = 1
    assert spread(kernel, counts, 1, [])[0] == [5]
