"""Remove and debias: the score when voxels are filled in from their neighbours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsal.evaluate.arguments import checked_map, one_target, settled
from medsal.evaluate.imputation import Neighbours, impute
from medsal.evaluate.order import Block, Order
from medsal.methods.many import check_count, scores_of
from medsal.probe import Probe, plain, quietly
from medsal.types import Image, Scores

FRACTIONS = tuple(i / 10 for i in range(1, 10))


@dataclass(frozen=True, eq=False)
class Road:
    """The score without the most, and without the least relevant voxels.

    Attributes:
        fractions: the share of the image that was removed, ``(m,)``.
        most: the score without the most relevant voxels, ``(n, m)``.
        least: the score without the least relevant ones, ``(n, m)``.
    """

    fractions: Tensor
    most: Tensor
    least: Tensor

    @property
    def score(self) -> Scores:
        """What the score loses by the most relevant voxels more than by the least relevant ones.

        ``mean over the fractions of least - most``, in units of the score: above 0 for a map that
        is right about the order, 0 on average for a random one.
        """
        return (self.least - self.most).mean(1)


@quietly()
def road(
    probe: Probe,
    image: Image,
    saliency: Tensor,
    *,
    fractions: Sequence[float] = FRACTIONS,
    block: Block = 1,
    neighbours: Neighbours = "all",
    noise: float | int = 0.01,
    seed: int = 0,
    batch: int = 8,
) -> Road:
    """ROAD: voxels are removed by noisy linear imputation, most relevant first and last.

    A blurred or grey patch tells a network where something was removed, whatever it held. A voxel
    that is filled in from its neighbours tells little, so that the order counts, and not the mask's
    shape.

    Source: Rong et al., 2022, "A Consistent and Efficient Evaluation Strategy for Attribution
    Methods", arXiv:2202.00449, section 4. There the accuracy over a data set is read; here the
    score of each sample (``ClassScore(k, activation="softmax")`` for its class's probability).

    Args:
        probe: with one target, which is settled at the whole image.
        image: ``(n, c, *s)``.
        saliency: ``(n, 1, *s)``.
        fractions: shares of the image to remove, above 0 and below 1.
        block: voxels along each axis that are taken together.
        neighbours: which ones a voxel is filled in from; see `impute`.
        noise: standard deviation as a share of the sample's value range; see `impute`.
        seed: of the noise, and of the order in which voxels of equal value are taken.
        batch: samples in one pass of the model.

    Raises:
        ValueError: when the map does not fit the image, or an option is out of its range.
    """
    check_count("batch", batch)
    if not fractions or not all(0 < each < 1 for each in fractions):
        raise ValueError(f"expected fractions above 0 and below 1, got {tuple(fractions)}")
    image = plain(image)
    order = Order(checked_map(saliency, image), block, seed)
    counts = [round(each * order.units) for each in fractions]

    def images() -> Iterator[Image]:
        for count in counts:
            for taken in (order.first(count), order.last(count)):
                yield impute(image, taken, neighbours=neighbours, noise=noise, seed=seed)

    scores = torch.cat(list(scores_of(settled(one_target(probe), image), images(), batch)), 1)
    removed = torch.tensor(counts, dtype=scores.dtype, device=scores.device) / order.units
    return Road(removed, scores[:, 0::2], scores[:, 1::2])
