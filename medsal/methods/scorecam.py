"""A class activation map whose weights are the scores of the image seen through each channel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from medsal.methods.cam import CAM
from medsal.methods.many import check_count, scores_of, wide
from medsal.methods.registry import register
from medsal.methods.scored import channel_weights
from medsal.methods.surrogate import scores_by_some
from medsal.ops import resize, spatial
from medsal.probe import Probe, Tapped
from medsal.types import Features, Image, Weights


@register("scorecam")
@dataclass(frozen=True)
class ScoreCAM(CAM):
    """Score-CAM: each channel counts by the score of the image seen through it.

    ``H_k = minmax(upsampled A_k)``, ``C_k = S(x H_k) - S(0)``, ``weights = softmax_k(C)``,
    ``map = relu(sum_k weights_k A_k)`` (algorithm 1). A constant channel has ``H = 0``. The
    baseline is the image 0; with the softmax it has no effect and is not computed.

    The softmax over differences of logits tends to leave a single channel; the authors' code has no
    softmax and takes the class's probability: ``softmax=False`` with
    ``target=ClassScore(k, activation="softmax")``. One forward pass for each channel.

    A channel that is constant shows the image 0: of those, one gets a pass.

    Args:
        softmax: over the channels, as in the paper; False = ``weights = C``.
        batch: samples in one pass of the model.
        share: of the channels, those that get a pass of their own, at least 4; the scores of the
            others are predicted from theirs (see `medsal.methods.surrogate`). An approximation
            below 1, which the result notes, with how well the known scores are predicted from one
            another. How far its maps agree with the full ones is measured in `tutorials/cost.md`:
            at 0.4 to 0.99 nearly always, the more channels the better. Where nearly all is
            rectified away, the little that is left may differ more.
    """

    softmax: bool = True
    batch: int = 8
    share: int | float = field(default=1.0, kw_only=True)

    one_pass: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Wang et al., 2020, Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural "
        "Networks, arXiv:1910.01279, algorithm 1"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("batch", self.batch)
        if not 0 < self.share <= 1:
            raise ValueError(f"expected a share above 0 and at most 1, got {self.share!r}")

    def weights_of(self, probe: Probe, image: Image, tap: Tapped) -> Iterator[Weights]:
        scores = self._scores(probe, image, tap.activations)
        if self.softmax:
            scores = scores.softmax(1)
        else:
            (none,) = scores_of(probe, [torch.zeros_like(image)], self.batch)
            scores = scores - none[:, None]
        return channel_weights(scores, tap)

    def _scores(self, probe: Probe, image: Image, activations: Features) -> Tensor:
        """The scores ``(n, k, t)`` of the image seen through each channel."""
        cells = wide(activations).flatten(2)
        constant = cells.amin(2) == cells.amax(2)
        count, living = constant.shape[1], int((~constant).sum(1).amax())
        rows = torch.arange(len(image), device=image.device)

        def ask(channels: Tensor) -> Tensor:
            each = (activations[rows, channel] for channel in channels.to(image.device).T)
            seen = (image * _mask(channel, image, self.shift) for channel in each)
            return torch.stack(list(scores_of(probe, seen, self.batch)), 1)

        passes, asked = min(count, living + 1), max(_FEWEST, ceil(self.share * count))
        if asked < passes:
            scores, agreement = scores_by_some(cells, ask, asked, self.softmax)
            _note_predicted(probe, asked, count, agreement)
            return scores.to(cells)
        # Beyond those that vary, all score as the first of the constant ones does.
        order = constant.byte().argsort(stable=True, dim=1)
        scores = ask(order[:, :passes])
        scores = torch.cat([scores, scores[:, -1:].expand(-1, count - passes, -1)], 1)
        return torch.zeros_like(scores).scatter(1, order[..., None].expand_as(scores), scores)


# Fewer scores than these tell nothing of the others.
_FEWEST = 4


def _note_predicted(probe: Probe, asked: int, count: int, agreement: float) -> None:
    """Of several layers, windows or samples, the one whose scores are predicted worst is told."""
    said = f"Score-CAM asked for the scores of {asked} of {count} channels and predicted the others"
    note = f"{said} (leave-one-out correlation {max(agreement, 0):.2f})"
    before = tuple(each for each in probe.record.notes if each.startswith(said))
    others = tuple(each for each in probe.record.notes if not each.startswith(said))
    probe.record.notes = (*others, min((note, *before)))


def _mask(channel: Tensor, image: Tensor, shift: Sequence[float] | None) -> Tensor:
    """A channel ``(n, *f)`` on the image's grid, from 0 to 1; 0 where it is constant."""
    on_grid = resize(wide(channel[:, None]), image.shape[2:], shift)
    low = on_grid.amin(spatial(on_grid), keepdim=True)
    span = on_grid.amax(spatial(on_grid), keepdim=True) - low
    return ((on_grid - low) / torch.where(span > 0, span, 1)).to(image.dtype)
