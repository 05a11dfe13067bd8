"""What chance gives: random maps as smooth as a map, with the same values."""

from collections.abc import Iterator

import torch
from torch import Tensor

from medsal.evaluate.arguments import checked_map
from medsal.methods.many import check_count
from medsal.ops import spatial
from medsal.types import Map


def surrogates(saliency: Tensor, count: int, seed: int = 0, rounds: int = 4) -> Iterator[Map]:
    """Random maps with a map's smoothness and values, at random places.

    A map with the spectrum's amplitudes and random phases; its values are replaced, in their order,
    by the map's own, then its amplitudes by the spectrum's, and so on, the values last. So a metric
    sees the same numbers in patches of the same size, and nothing of where they were. They are
    a little rougher than the map, more so on small grids, which count as periodic.

    Source: Schreiber and Schmitz, 1996, "Improved Surrogate Data for Nonlinearity Tests",
    doi:10.1103/PhysRevLett.77.635.

    Args:
        saliency: ``(n, 1, *s)``.
        count: how many.
        seed: of the phases, drawn on the host.
        rounds: how often amplitudes and values are put back.

    Yields:
        Each ``(n, 1, *s)``.
    """
    check_count("count", count)
    check_count("rounds", rounds)
    whole = checked_map(saliency)
    axes, size = spatial(whole), whole.shape[2:]
    ascending = whole.flatten(1).sort(1).values
    amplitudes = torch.fft.rfftn(whole.float(), dim=axes).abs()
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        noise = torch.randn(whole.shape[1:], generator=generator).to(whole.device)
        found = noise.expand(whole.shape).clone()  # one block of memory: FFTs of MKL ask for it
        for _ in range(rounds):
            phases = torch.fft.rfftn(found.float(), dim=axes).angle()
            spectrum = torch.polar(amplitudes, phases)
            order = torch.fft.irfftn(spectrum, s=size, dim=axes).flatten(1).argsort(1)
            found = torch.empty_like(ascending).scatter_(1, order, ascending).reshape(whole.shape)
        yield found
