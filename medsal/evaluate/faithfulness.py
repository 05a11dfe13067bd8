"""Does the score follow the map? The image handed over in its order, and the score watched."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from medsal.evaluate.arguments import checked_map, one_target, settled
from medsal.evaluate.imputation import impute
from medsal.evaluate.order import Block, Order
from medsal.methods.baseline import Baseline, baseline_of, check_baseline
from medsal.methods.many import check_count, scores_of
from medsal.probe import Probe, plain, quietly
from medsal.types import Image, Scores

Kind = Literal["insertion", "deletion"]
# Rounding of scores in float32.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Curve:
    """The score while an image is taken away or put back in a map's order.

    Attributes:
        kind: ``"deletion"``, from the whole image to the empty one; ``"insertion"``, back.
        fractions: the share of the image that was handed over, from 0 to 1, ``(m,)``.
        scores: ``(n, m)``.
    """

    kind: Kind
    fractions: Tensor
    scores: Tensor

    def __getitem__(self, samples: Tensor) -> "Curve":
        """The curves of some samples: ``curve[curve.defined].normalised``."""
        return replace(self, scores=self.scores[samples])

    @property
    def full(self) -> Scores:
        """The score of the whole image."""
        return self.scores[:, 0 if self.kind == "deletion" else -1]

    @property
    def empty(self) -> Scores:
        """The score of the empty image."""
        return self.scores[:, -1 if self.kind == "deletion" else 0]

    @property
    def auc(self) -> Scores:
        """The area under the curve by the trapezoidal rule: the mean score on the way."""
        return torch.trapezoid(self.scores, self.fractions)

    @property
    def defined(self) -> Tensor:
        """Where the whole image scores higher than the empty one, ``(n,)`` bool."""
        return self.full - self.empty > _ROUNDING * torch.maximum(self.full.abs(), self.empty.abs())

    @property
    def normalised(self) -> Scores:
        """The area with the empty image's score as 0 and the whole one's as 1.

        ``(auc - empty) / (full - empty)``: of a score that falls in proportion to what is taken
        away, 1/2, whatever its scale. Deletion: lower is better; insertion: higher. It may leave
        the range from 0 to 1, where the score does on the way.

        Raises:
            ValueError: where it is not `defined`.
        """
        undefined = (~self.defined).nonzero().flatten().tolist()
        if undefined:
            full, empty = self.full[undefined].tolist(), self.empty[undefined].tolist()
            raise ValueError(
                f"expected images that score higher than empty ones, got {full} and {empty} of the "
                f"samples {undefined}; choose another baseline or target, or leave them out: "
                f"curve[curve.defined].normalised"
            )
        return (self.auc - self.empty) / (self.full - self.empty)


def deletion(
    probe: Probe,
    image: Image,
    saliency: Tensor,
    *,
    baseline: Baseline = "blur",
    steps: int = 32,
    block: Block = 1,
    seed: int = 0,
    batch: int = 8,
) -> Curve:
    """The score while the image is taken away, what the map calls most relevant first.

    A true map makes it fall fast: low is good.

    Source: Petsiuk et al., 2018, "RISE: Randomized Input Sampling for Explanation of Black-box
    Models", arXiv:1806.07421, section 4.1. There the score is the class's probability
    (``ClassScore(k, activation="softmax")``), the empty image is 0 everywhere, and the area is not
    normalised.

    Args:
        probe: with one target, which is settled at the whole image.
        image: ``(n, c, *s)``.
        saliency: ``(n, 1, *s)``; what speaks against the target comes last.
        baseline: what a voxel shows that was taken away: ``"blur"``, the image blurred by a tenth
            of its size; ``"mean"`` of the channel; ``"inpaint"``, filled in from the voxels around
            it that are left (`impute`, without noise); a number; or a tensor that broadcasts
            against the image.
        steps: how many times the score is read after the start.
        block: voxels along each axis that are taken together.
        seed: of the order in which voxels of equal value are taken.
        batch: samples in one pass of the model.

    Raises:
        ValueError: when the map does not fit the image, or an option is out of its range.
    """
    asked = Asked(probe, image, saliency, baseline, steps, block, seed, batch)
    return read("deletion", asked)


def insertion(
    probe: Probe,
    image: Image,
    saliency: Tensor,
    *,
    baseline: Baseline = "blur",
    steps: int = 32,
    block: Block = 1,
    seed: int = 0,
    batch: int = 8,
) -> Curve:
    """The score while the image is put back, what the map calls most relevant first.

    A true map makes it rise fast: high is good. As in the paper, the empty image is a blurred one
    by default. See `deletion` for the source and the arguments.
    """
    asked = Asked(probe, image, saliency, baseline, steps, block, seed, batch)
    return read("insertion", asked)


@dataclass(frozen=True, eq=False)
class Asked:
    """What a curve is read of; see `deletion` for the meaning."""

    probe: Probe
    image: Image
    saliency: Tensor
    baseline: Baseline
    steps: int
    block: Block
    seed: int
    batch: int


@quietly()
def read(kind: Kind, asked: Asked, known: Curve | None = None) -> Curve:
    """The score along a map's order.

    Args:
        kind: ``"insertion"`` or ``"deletion"``.
        asked: of what.
        known: another curve of the same image and baseline, whose ends are the same.
    """
    check_count("batch", asked.batch)
    image = plain(asked.image)
    order = Order(checked_map(asked.saliency, image), asked.block, asked.seed)
    counts = order.counts(asked.steps)
    empty = _emptied(image, asked.baseline)

    def images() -> Iterator[Image]:
        for count in counts if known is None else counts[1:-1]:
            taken = order.first(count)
            yield empty(taken if kind == "deletion" else ~taken)

    probe = settled(one_target(asked.probe), image)
    scores = torch.cat([*scores_of(probe, images(), asked.batch)], 1)
    if known is not None:
        ends = known.full[:, None], known.empty[:, None]
        first, last = ends if kind == "deletion" else ends[::-1]
        scores = torch.cat([first, scores, last], 1)
    fractions = torch.tensor(counts, dtype=scores.dtype, device=scores.device) / order.units
    return Curve(kind, fractions, scores)


def _emptied(image: Image, baseline: Baseline) -> Callable[[Tensor], Image]:
    """From the voxels ``(n, 1, *s)`` that are taken away to the image without them."""
    if isinstance(baseline, str) and baseline == "inpaint":
        return lambda taken: impute(image, taken)
    if isinstance(baseline, str) and baseline not in ("mean", "blur"):
        raise ValueError(
            f"expected baseline as 'blur', 'mean', 'inpaint', a number or a tensor, got "
            f"{baseline!r}"
        )
    check_baseline("baseline", baseline)
    filled = baseline_of(image, baseline)
    return lambda taken: torch.where(taken, filled, image)
