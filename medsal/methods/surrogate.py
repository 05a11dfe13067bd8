"""The scores of many masks from passes for some of them: a Gaussian process in the model's place.

What a network scores is a smooth function of the mask that it sees through, and a layer's channels
are masks on few cells, many of them alike. So those that get a pass tell what the others would
score; how well they do is known, as each of them is predicted from the rest.

Source: Rasmussen and Williams, 2006, Gaussian Processes for Machine Learning, equations 2.25 and
2.26 (prediction) and 5.12 (leave-one-out). The masks that get a pass are found by a pivoted
Cholesky factorisation (Harbrecht et al., 2012, doi:10.1016/j.apnum.2011.10.001, algorithm 1), whose
remainder is the variance that those chosen so far leave.
"""

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

# The scores' noise, beside a kernel of 1 on its diagonal.
_NOISES = [10.0**i for i in range(-8, 2)]
_ROUND = 1e-8


def scores_by_some(
    channels: Tensor, ask: Callable[[Tensor], Tensor], count: int, softmax: bool
) -> tuple[Tensor, float]:
    """The scores of all channels, of which some are asked for and the others predicted.

    In float64 on the host; each sample by itself, all targets from the same passes.

    Args:
        channels: a layer's activations, ``(n, k, cells)``.
        ask: from numbers of channels, ``(n, m)``, to their scores ``(n, m, t)``.
        count: how many channels to ask for; at least 2.
        softmax: whether the softmax of the scores is what counts: one half of the passes then
            finds where it is large, and the other half is spent there.

    Returns:
        The scores ``(n, k, t)``, and how well those that were asked for are predicted from one
        another: the correlation, of the target and the sample where it is lowest.
    """
    samples = [Survey(each.double().cpu()) for each in channels]
    for goal in (ceil(count / 2), count) if softmax else (count,):
        fresh = torch.tensor([each.choose(goal) for each in samples])
        for each, scores in zip(samples, ask(fresh).double().cpu(), strict=True):
            each.learn(scores)
    return torch.stack([each.mean for each in samples]), min(each.agreement for each in samples)


class Survey:
    """What is known of the scores through the channels of one sample, ``(k, cells)``.

    What a channel counts for in the map is its norm about its mean, and, once there are scores, its
    share in their softmax: that of the most favourable target.
    """

    def __init__(self, channels: Tensor) -> None:
        self.kernel = likeness(channels)
        self.norms = self.counts = (channels - channels.mean(1, keepdim=True)).norm(dim=1)
        self.asked: list[int] = []
        self.variance = self.kernel.diagonal()
        self.scores = self.mean = torch.empty(0)
        self.agreement = 1.0

    def choose(self, goal: int) -> list[int]:
        """Those to ask for next, until ``goal`` of them are known."""
        known = len(self.asked)
        self.asked, self.variance = spread(self.kernel, self.counts, goal, self.asked)
        return self.asked[known:]

    def learn(self, scores: Tensor) -> None:
        """Take in what the chosen ones scored, ``(m, t)``."""
        self.scores = torch.cat([self.scores.reshape(-1, scores.shape[1]), scores])
        self.mean, self.agreement = predicted(self.kernel, self.asked, self.scores)
        self.mean[self.asked] = self.scores
        # The mean of exp(score) is that of a log-normal distribution.
        half = self.variance[:, None] * self.scores.var(0, correction=0) / 2
        self.counts = self.norms * (self.mean + half).softmax(0).amax(1)


def likeness(channels: Tensor) -> Tensor:
    """How alike the masks of channels ``(k, cells)`` are, from 1 down to 0, ``(k, k)``.

    ``exp(-2 d^2 / m)``, where ``d`` is the distance of two masks from 0 to 1, each cell weighted by
    its variance over the channels, and ``m`` the median of all ``d^2``: a length of half of the
    median distance. No linear part: of the networks tried, the trained one was predicted worse.
    """
    low = channels.amin(1, keepdim=True)
    span = channels.amax(1, keepdim=True) - low
    masks = (channels - low) / torch.where(span > 0, span, 1)
    weighted = (masks - masks.mean(0)) * masks.var(0, correction=0)
    products = weighted @ weighted.T
    squares = products.diagonal()
    distances = (squares[:, None] + squares - 2 * products).clamp(min=0)
    apart = distances[distances > _ROUND * distances.max()]
    return torch.exp(-2 * distances / apart.median()) if len(apart) else torch.ones_like(distances)


def spread(kernel: Tensor, counts: Tensor, goal: int, known: list[int]) -> tuple[list[int], Tensor]:
    """The ones to ask for: each time that whose uncertainty times what it counts for is largest.

    Args:
        kernel: ``(k, k)``.
        counts: what each counts for, ``(k,)``.
        goal: how many there shall be.
        known: those that are there already, and come first.

    Returns:
        Their numbers, and the variance that they leave, ``(k,)``.
    """
    variance = kernel.diagonal().clone()
    chosen, rows = list(known), torch.zeros(goal, len(kernel), dtype=kernel.dtype)
    free = torch.ones_like(variance, dtype=torch.bool)
    for j in range(goal):
        if j == len(chosen):
            chosen.append(int((variance * counts.square()).masked_fill(~free, -1).argmax()))
        i = chosen[j]
        free[i] = False
        row = kernel[i] - rows[:j, i] @ rows[:j]
        rows[j] = row / (variance[i] + _ROUND).sqrt()
        variance = (variance - rows[j].square()).clamp(min=0)
    return chosen, variance


def predicted(kernel: Tensor, asked: list[int], scores: Tensor) -> tuple[Tensor, float]:
    """What all would score, ``(k, t)``, from those that were asked for, ``(m, t)``.

    For each target, the noise is taken under which the known scores are best predicted from one
    another.

    Returns:
        The scores, and the correlation of the known ones with what the others predict for them: of
        the target where it is lowest.
    """
    mean, spread = scores.mean(0), scores.std(0, correction=0)
    known = (scores - mean) / torch.where(spread > 0, spread, 1)
    values, vectors = torch.linalg.eigh(kernel[asked][:, asked])
    gains = 1 / (values.clamp(min=0) + torch.tensor(_NOISES, dtype=values.dtype)[:, None])
    factors = vectors @ (gains[:, :, None] * (vectors.T @ known))
    errors = factors / (gains @ vectors.square().T)[:, :, None]
    best = errors.square().mean(1).argmin(0), slice(None), torch.arange(scores.shape[1])
    expected, rest = kernel[:, asked] @ factors[best].T, known - errors[best].T
    return mean + spread * expected, min(map(_correlation, rest.T, known.T))


def _correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's; 1 where neither varies, as then nothing is left to predict."""
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else 1.0
