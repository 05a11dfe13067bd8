"""Gradients along the way from a baseline to the image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from medsal.methods.baseline import Baseline, HoldsTensors, baseline_of, check_baseline
from medsal.methods.gradient import VoxelMethod
from medsal.methods.many import check_count, gradients_of, scores_of, streamed_sum, wide
from medsal.methods.registry import register
from medsal.probe import Probe
from medsal.types import Image

Quadrature = Literal["gauss-legendre", "midpoint"]


@register("integrated_gradients")
@dataclass(frozen=True, eq=False, repr=False)
class IntegratedGradients(HoldsTensors, VoxelMethod):
    """The mean gradient on the straight line from a baseline, times what the image differs; signed.

    ``map_i = (x_i - b_i) int_0^1 dS/dx_i (b + a (x - b)) da`` (equation 1). Complete: the sum over
    the image is ``S(x) - S(b)``, but for the error of the integral; where that is missed by more
    than 5 %, a note in the result says so. The paper shows the channels summed, as here.

    The paper takes steps of equal length; Gauss-Legendre nodes need far fewer for a smooth score.
    Along the line through a network of ReLUs the gradient jumps, and both need many.

    Args:
        baseline: a number; a tensor that broadcasts against the image; ``"mean"`` of each channel;
            ``"blur"``. 0 in z-scored scans is the mean, in CT it is water.
        steps: gradients on the way.
        quadrature: ``"gauss-legendre"`` or ``"midpoint"``.
        batch: samples in one pass of the model; each holds a graph.
    """

    baseline: Baseline = 0.0
    steps: int = 50
    quadrature: Quadrature = "gauss-legendre"
    batch: int = 1

    source: ClassVar[str] = (
        "Sundararajan et al., 2017, Axiomatic Attribution for Deep Networks, arXiv:1703.01365, "
        "equation 1"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_baseline("baseline", self.baseline)
        check_count("steps", self.steps)
        check_count("batch", self.batch)
        if self.quadrature not in ("gauss-legendre", "midpoint"):
            raise ValueError(
                f"expected a quadrature of ['gauss-legendre', 'midpoint'], got {self.quadrature!r}"
            )

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        start = baseline_of(image, self.baseline)
        nodes = self._nodes()
        way = (start + place * (image - start) for place, _ in nodes)
        total = streamed_sum(gradients_of(probe, way, self.batch), [share for _, share in nodes])
        found = total * wide(image - start)[:, None]
        self._note_missed(probe, image, start, found)
        return found

    def _nodes(self) -> list[tuple[float, float]]:
        """Where on the way from 0 to 1 the gradient is taken, and what it counts for."""
        if self.quadrature == "midpoint":
            return [((i + 0.5) / self.steps, 1 / self.steps) for i in range(self.steps)]
        places, shares = np.polynomial.legendre.leggauss(self.steps)
        return list(zip(((places + 1) / 2).tolist(), (shares / 2).tolist(), strict=True))

    def _note_missed(self, probe: Probe, image: Image, start: Image, found: Tensor) -> None:
        whole, none = scores_of(probe, [image, start], self.batch)
        parts = found.flatten(2)
        missed = (parts.sum(2) - (whole - none)).abs()
        if bool((missed > 0.05 * (whole - none).abs() + 1e-3 * parts.abs().sum(2)).any()):
            probe.record.note(
                f"integrated gradients miss the difference of the scores by up to "
                f"{float(missed.max()):.3g} (of {float((whole - none).abs().max()):.3g}) with "
                f"{self.steps} steps; give more steps",
                about="integrated_gradients",
                worse=float(missed.max()),
            )


@register("expected_gradients")
@dataclass(frozen=True, eq=False, repr=False)
class ExpectedGradients(HoldsTensors, VoxelMethod):
    """Integrated gradients averaged over references from the data; signed.

    ``map_i = E_r,a [(x_i - r_i) dS/dx_i (r + a (x - r))]`` for references r and places a drawn
    uniformly from 0 to 1 (their definition of
    expected gradients). In the mean over draws the sum is ``S(x) - E_r S(r)``.

    The paper draws references with replacement; here each is used equally often, in a drawn order,
    which has the same mean and less spread. All samples of a batch see the same draws.

    Args:
        references: images as the network takes them, ``(r, c, *s)``, of the image's shape.
        samples: draws.
        seed: of the draws; the global random state is not touched.
        batch: samples in one pass of the model; each holds a graph.
    """

    references: Tensor | None = None
    samples: int = 50
    seed: int = 0
    batch: int = 1

    source: ClassVar[str] = (
        "Erion et al., 2021, Improving performance of deep learning models with axiomatic "
        "attribution priors and expected gradients, arXiv:1906.10670"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("samples", self.samples)
        check_count("batch", self.batch)

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        references = self._references(image)
        draws = self._draws(len(references))
        way = (references[r] + place * (image - references[r]) for r, place in draws)
        found = zip(draws, gradients_of(probe, way, self.batch), strict=True)
        parts = (each * wide(image - references[r])[:, None] for (r, _), each in found)
        return streamed_sum(parts, [1 / self.samples] * self.samples)

    def _references(self, image: Image) -> Tensor:
        if self.references is None:
            raise ValueError(
                "expected_gradients needs references, images as the network takes them: "
                "references=tensor (r, c, *s), e.g. some of the training data"
            )
        if not len(self.references) or self.references.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"expected references (r, {', '.join(map(str, image.shape[1:]))}) like the image, "
                f"got {tuple(self.references.shape)}"
            )
        return self.references.as_subclass(Tensor).to(image)

    def _draws(self, count: int) -> list[tuple[int, float]]:
        """Which reference, and where on the way from it, for each draw."""
        generator = torch.Generator().manual_seed(self.seed)
        orders = [
            torch.randperm(count, generator=generator) for _ in range(-(-self.samples // count))
        ]
        places = torch.rand(self.samples, generator=generator, dtype=torch.float64)
        chosen = torch.cat(orders)[: self.samples]
        return list(zip(chosen.tolist(), places.tolist(), strict=True))
