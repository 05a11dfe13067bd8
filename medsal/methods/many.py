"""Many changed images through one probe, several in one pass of the model.

A method that looks at changed images makes them one by one and reads the answers one by one; here
they are folded into passes of bounded size. A target may differ from sample to sample (a class or
a region for each), so what is repeated is always the whole batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from medsal.probe import Probe
from medsal.types import Image, Scores, Target


@dataclass(frozen=True, repr=False)
class Repeated:
    """A target for a batch that is repeated several times along the sample axis.

    Args:
        target: the target of one batch.
        times: how often the batch is repeated.
        samples: how many samples it has.
    """

    target: Target
    times: int
    samples: int

    def __repr__(self) -> str:
        return repr(self.target)  # an error names what was asked for

    def __call__(self, output: Any) -> Scores:
        parts = (part_of_batch(output, i, self.times, self.samples) for i in range(self.times))
        return torch.cat([self.target(part) for part in parts])


def part_of_batch(output: Any, i: int, times: int, samples: int) -> Any:
    """What a model put out for one of the ``times`` that a batch was repeated."""
    if isinstance(output, Tensor):
        whole = output.ndim and len(output) == times * samples
        return output[i * samples : (i + 1) * samples] if whole else output
    if isinstance(output, Mapping):
        return {key: part_of_batch(value, i, times, samples) for key, value in output.items()}
    if isinstance(output, tuple | list):
        return [part_of_batch(value, i, times, samples) for value in output]
    return output


def repeated(probe: Probe, times: int, samples: int) -> Probe:
    """The probe for a batch of ``samples`` that is repeated ``times``."""
    if times == 1:
        return probe
    targets = tuple(Repeated(each, times, samples) for each in probe.targets)
    return replace(probe, target=targets if isinstance(probe.target, tuple) else targets[0])


def answers(
    ask: Callable[[Probe, Image], Tensor], probe: Probe, images: Iterable[Tensor], batch: int
) -> Iterator[Tensor]:
    """What a probe answers for each of many images, in passes of bounded size.

    Args:
        ask: from a probe and a batch to an answer with one row per sample, ``(n, ...)``.
        probe: of the images' model.
        images: each a batch ``(n, c, *s)``; one of them is in memory for each place in a pass.
        batch: how many samples go into one pass; a whole ``(n, ...)`` at least.

    Yields:
        The answer for each, ``(n, ...)``.
    """
    source = iter(images)
    for first in source:
        samples = len(first)
        group = [first, *islice(source, places(probe, samples, batch) - 1)]
        found = ask(repeated(probe, len(group), samples), torch.cat(group))
        yield from torch.split(found, samples)


def places(probe: Probe, samples: int, batch: int) -> int:
    """How many times ``samples`` fit into a pass of ``batch``; at least once."""
    # Further arguments of the forward pass that may hold samples would not fit a larger batch.
    shared = bool | int | float | str | None
    alone = any(not isinstance(each, shared) for each in probe.forward_kwargs.values())
    return 1 if alone else max(1, batch // samples)


def scores_of(probe: Probe, images: Iterable[Tensor], batch: int) -> Iterator[Tensor]:
    """The scores of each image, ``(n, t)``."""
    for found in answers(lambda asked, image: asked.scores(image), probe, images, batch):
        yield found if found.dtype == torch.float64 else found.float()


def gradients_of(probe: Probe, images: Iterable[Tensor], batch: int) -> Iterator[Tensor]:
    """The gradients of each image's scores by its voxels, ``(n, t, c, *s)``."""
    return answers(lambda asked, image: asked.gradients(image), probe, images, batch)


def check_count(name: str, value: int) -> None:
    """Refuse a number of passes, samples or steps that is no whole number of at least 1.

    Raises:
        ValueError: when it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected {name} as a whole number of at least 1, got {value!r}")


def wide(x: Tensor) -> Tensor:
    """At least float32: sums over many small numbers are rounded away in half precision."""
    return x if x.dtype == torch.float64 else x.float()


def streamed_sum(tensors: Iterable[Tensor], weights: Sequence[float]) -> Tensor:
    """A weighted sum of at least one tensor, one at a time."""
    total: Tensor | None = None
    for each, weight in zip(tensors, weights, strict=True):
        total = wide(each) * weight if total is None else total.add_(wide(each), alpha=weight)
    if total is None:
        raise ValueError("expected at least one tensor to sum, got none")
    return total
