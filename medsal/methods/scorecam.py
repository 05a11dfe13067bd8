"""A class activation map whose weights are the scores of the image seen through each channel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
        agreement: the correlation with the map of all passes to which the map is expected to agree,
            on the layer's cells. Below 1 passes are made for more and more channels, until the
            scores of the others are known well enough from theirs (see
            `medsal.methods.surrogate`): an approximation, which the result notes, with how many
            passes it took. That depends on the network and the image: a tenth of the channels, or
            nearly all. How well the expectation is met is measured in `tutorials/cost.md`.
    """

    softmax: bool = True
    batch: int = 8
    agreement: int | float = field(default=1.0, kw_only=True)

    one_pass: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Wang et al., 2020, Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural "
        "Networks, arXiv:1910.01279, algorithm 1"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("batch", self.batch)
        if not 0 < self.agreement <= 1:
            raise ValueError(
                f"expected agreement as a correlation above 0 and at most 1, got {self.agreement!r}"
            )

    def weights_of(self, probe: Probe, image: Image, tap: Tapped) -> Iterator[Weights]:
        scores = self._scores(probe, image, tap.activations)
        return channel_weights(scores.softmax(1) if self.softmax else scores, tap)

    def _scores(self, probe: Probe, image: Image, activations: Features) -> Tensor:
        """The scores ``(n, k, t)`` of the image seen through each channel.

        Where no softmax follows, which takes no notice of it, that of the image 0 is taken off.
        """
        cells = wide(activations).flatten(2)
        constant = cells.amin(2) == cells.amax(2)
        count, living = constant.shape[1], int((~constant).sum(1).amax())
        # Beyond those that vary, all score as the first of the constant ones does.
        order = constant.byte().argsort(stable=True, dim=1)
        chosen, rows = order[:, : living + 1], torch.arange(len(image), device=image.device)
        empty = [] if self.softmax else [torch.zeros_like(image)]
        none = sum(scores_of(probe, empty, self.batch))

        def ask(places: Tensor) -> Tensor:
            numbers = chosen.gather(1, places.to(chosen.device))
            each = (activations[rows, channel] for channel in numbers.T)
            seen = (image * _mask(channel, image, self.shift) for channel in each)
            return torch.stack([found - none for found in scores_of(probe, seen, self.batch)], 1)

        if self.agreement < 1 and bool(cells.isfinite().all()):
            there = cells.gather(1, chosen[..., None].expand(-1, -1, cells.shape[2]))
            found, asked, agreement = scores_by_some(
                there, ask, self.agreement, self.softmax, not self.signed
            )
            if asked < chosen.shape[1]:
                _note_predicted(probe, asked, count, agreement)
            scores = found.to(cells)
        else:
            scores = ask(torch.arange(chosen.shape[1]).expand(len(image), -1))
        scores = torch.cat([scores, scores[:, -1:].expand(-1, count - scores.shape[1], -1)], 1)
        return torch.zeros_like(scores).scatter(1, order[..., None].expand_as(scores), scores)


def _note_predicted(probe: Probe, asked: int, count: int, agreement: float) -> None:
    probe.record.note(
        f"Score-CAM asked for the scores of {asked} of {count} channels and predicted the others; "
        f"the map is expected to correlate to {agreement:.3f} or more with that of all",
        about="scorecam",
        worse=-agreement,
    )


def _mask(channel: Tensor, image: Tensor, shift: Sequence[float] | None) -> Tensor:
    """A channel ``(n, *f)`` on the image's grid, from 0 to 1; 0 where it is constant."""
    on_grid = resize(wide(channel[:, None]), image.shape[2:], shift)
    low = on_grid.amin(spatial(on_grid), keepdim=True)
    span = on_grid.amax(spatial(on_grid), keepdim=True) - low
    return ((on_grid - low) / torch.where(span > 0, span, 1)).to(image.dtype)
