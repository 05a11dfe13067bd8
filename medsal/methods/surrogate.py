"""The scores of many masks from passes for some of them: a Gaussian process in the model's place.

What a network scores is a smooth function of the mask that it sees through, and a layer's channels
are masks on few cells, many of them alike. So those that get a pass tell what the others would
score, and how far off that may be: scores that might be the others' are drawn, and as long as the
maps that they make differ, more channels get a pass.

Source: Rasmussen and Williams, 2006, Gaussian Processes for Machine Learning, equations 2.25 and
2.26 (prediction) and 5.12 (leave-one-out). Draws are made by Matheron's rule (Wilson et al., 2020,
arXiv:2002.09309). The masks that get a pass are found by a pivoted Cholesky factorisation
(Harbrecht et al., 2012, doi:10.1016/j.apnum.2011.10.001, algorithm 1), whose remainder is the
variance that those chosen so far leave.
"""

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

# The scores' noise, beside a kernel of 1 on its diagonal.
_NOISES = [10.0**i for i in range(-8, 2)]
_ROUND = 1e-8
# The first passes: a share of the channels, but fewer than these tell nothing of the others.
_FIRST, _FEWEST = 0.1, 16
# How many more there are in each round, and from which share on all are asked for.
_MORE, _NEARLY = 1.25, 0.8
_DRAWS = 20
# How much farther off scores are drawn than known ones are: these are few, and the rounds end where
# they look best. On the networks tried, 1 lets some maps pass that agree less than expected.
_DOUBT = 1.25


def scores_by_some(
    channels: Tensor,
    ask: Callable[[Tensor], Tensor],
    agreement: float,
    softmax: bool,
    rectified: bool,
) -> tuple[Tensor, int, float]:
    """The scores of all channels, of which some are asked for and the others predicted.

    In float64 on the host; each sample by itself, all targets from the same passes.

    Args:
        channels: a layer's activations, ``(n, k, cells)``.
        ask: from numbers of channels, ``(n, m)``, to their scores ``(n, m, t)``.
        agreement: to what correlation the map is to agree with that of all passes.
        softmax: whether the softmax of the scores weighs the channels, or the scores do.
        rectified: whether what is below 0 in the map becomes 0.

    Returns:
        The scores ``(n, k, t)``; and of the sample whose map agrees least, how many channels were
        asked for, and to what correlation.
    """
    surveys = [Survey(each.double().cpu(), softmax, rectified) for each in channels]
    count, goal, known = channels.shape[1], max(_FEWEST, ceil(_FIRST * channels.shape[1])), 0
    while any(each.agreement < agreement for each in surveys):
        goal = count if goal > _NEARLY * count else goal
        going = [each.agreement < agreement for each in surveys]
        # A sample that is done stays as it is: what is asked in its place is not listened to.
        fresh = [
            each.choose(goal) if goes else each.asked[:1] * (goal - known)
            for each, goes in zip(surveys, going, strict=True)
        ]
        found = ask(torch.tensor(fresh)).double().cpu()
        for each, goes, scores in zip(surveys, going, found, strict=True):
            if goes:
                each.learn(scores)
        known, goal = goal, ceil(_MORE * goal)
    least = min(surveys, key=lambda each: (each.agreement, len(each.asked)))
    return torch.stack([each.mean for each in surveys]), len(least.asked), least.agreement


class Survey:
    """What is known of the scores through the channels of one sample, ``(k, cells)``.

    What a channel counts for in the map is its norm about its mean, and, where the softmax weighs
    it, its share in that: of the most favourable target.

    Attributes:
        asked: the channels whose scores are known.
        mean: what all score, ``(k, t)``.
        agreement: the lowest correlation of the map with those that drawn scores make.
    """

    def __init__(self, channels: Tensor, softmax: bool, rectified: bool) -> None:
        self.channels, self.softmax, self.rectified = channels, softmax, rectified
        self.kernel = likeness(channels)
        self.norms = self.counts = (channels - channels.mean(1, keepdim=True)).norm(dim=1)
        self.asked: list[int] = []
        self.variance = self.kernel.diagonal()
        self.scores = self.mean = torch.empty(0)
        self.agreement = -1.0
        # Always the same draws, so that a map can be repeated.
        drawn = torch.Generator().manual_seed(0)
        normal = torch.randn(2, len(channels), _DRAWS, generator=drawn, dtype=torch.float64)
        jitter = 100 * _ROUND * torch.eye(len(channels), dtype=torch.float64)
        root = torch.linalg.cholesky(self.kernel + jitter)
        self.prior = root @ normal[0], normal[1]

    def choose(self, goal: int) -> list[int]:
        """Those to ask for next, until ``goal`` of them are known."""
        known = len(self.asked)
        self.asked, self.variance = spread(self.kernel, self.counts, goal, self.asked)
        return self.asked[known:]

    def learn(self, scores: Tensor) -> None:
        """Take in what the chosen ones scored, ``(m, t)``."""
        self.scores = torch.cat([self.scores.reshape(-1, scores.shape[1]), scores])
        self.mean, apart = predicted(self.kernel, self.asked, self.scores, self.prior)
        apart[self.asked], self.mean[self.asked] = 0, self.scores
        likely = self._maps(self.mean.T)[:, None]
        possible = self._maps((self.mean[..., None] + _DOUBT * apart).permute(1, 2, 0))
        all_known = len(self.asked) == len(self.kernel)
        self.agreement = 1.0 if all_known else float(correlations(likely, possible).min())
        if self.softmax:
            # The mean of exp(score) is that of a log-normal distribution.
            half = self.variance[:, None] * self.scores.var(0, correction=0) / 2
            self.counts = self.norms * (self.mean + half).softmax(0).amax(1)

    def _maps(self, scores: Tensor) -> Tensor:
        """The maps ``(..., cells)`` of scores ``(..., k)``."""
        maps = (scores.softmax(-1) if self.softmax else scores) @ self.channels
        return maps.relu() if self.rectified else maps


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


def predicted(
    kernel: Tensor, asked: list[int], scores: Tensor, prior: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """What all would score, ``(k, t)``, from those that were asked for, ``(m, t)``.

    For each target, the noise is taken under which the known scores are best predicted from one
    another, and the variance that the errors of these predictions have.

    Args:
        kernel: ``(k, k)``.
        asked: whose scores are known.
        scores: theirs.
        prior: draws of scores with this kernel, and of noise with a variance of 1, each ``(k, d)``.

    Returns:
        The scores, and for each draw how far off they may be, ``(k, t, d)``.
    """
    level, width = scores.mean(0), scores.std(0, correction=0)
    known = (scores - level) / torch.where(width > 0, width, 1)
    values, vectors = torch.linalg.eigh(kernel[asked][:, asked])
    noises = torch.tensor(_NOISES, dtype=values.dtype)
    gains = 1 / (values.clamp(min=0) + noises[:, None])
    factors = vectors @ (gains[:, :, None] * (vectors.T @ known))
    # By noise, score and target; of a prediction the variance is one over this.
    certain = (gains @ vectors.square().T)[:, :, None]
    errors = factors / certain
    best = errors.square().mean(1).argmin(0)
    targets = torch.arange(scores.shape[1])
    expected = kernel[:, asked] @ factors[best, :, targets].T
    size = (errors.square() * certain).mean(1)[best, targets].sqrt() * width
    # From here on by channel, target and draw.
    drawn, noise = prior[0][:, None], prior[1][:, None] * noises[best].sqrt()[:, None]
    seen = torch.einsum("mi,mtd->itd", vectors, (drawn + noise)[asked]) * gains[best].T[..., None]
    told = torch.einsum("km,mi,itd->ktd", kernel[:, asked], vectors, seen)
    return level + width * expected, (drawn + noise - told) * size[:, None]


def correlations(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, along the last axis; 1 where neither varies, 0 where one does not."""
    apart = [each - each.mean(-1, keepdim=True) for each in (a, b)]
    one, two = (each.norm(dim=-1) for each in apart)
    # What is left of rounding is no variation.
    one, two = one * (one > _ROUND * a.norm(dim=-1)), two * (two > _ROUND * b.norm(dim=-1))
    found = (apart[0] * apart[1]).sum(-1) / torch.where(one * two > 0, one * two, torch.inf)
    return torch.where((one == 0) & (two == 0), 1.0, found.clamp(-1, 1))
