"""Class activation maps whose weights are read off the scores of a changed layer.

Also the first class activation map, whose weights are a linear layer's: what a changed layer does
to the score tells whether there is such a layer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Literal

import torch
from torch import Tensor

from medsal.methods.cam import CAM
from medsal.methods.many import check_count, places, repeated, wide
from medsal.methods.registry import register
from medsal.ops import spatial, spatial_mean
from medsal.probe import CleanPass, Probe, Tapped
from medsal.types import Image, Weights

Divide = Literal["score", "magnitude", "norm", "none"]


@register("cam")
@dataclass(frozen=True)
class ClassActivationMap(CAM):
    """CAM: each channel counts by its weight in the linear layer after global average pooling.

    ``map_i = sum_k w_k A_ki`` (equation 2), signed, for the score ``sum_k w_k mean_i A_ki + b``.
    That head is linear, so ``w_k`` is the sum of the score's gradient over the cells, whatever
    the modules are called: the map's mean on the layer's grid is the score less the bias. The
    paper's pooling is a sum, which scales ``w``; here it is the mean, as networks have it.

    Refused where the head is anything else: where the gradient differs from cell to cell, or the
    score at no activation and at negated activations does not lie on the line.
    """

    signed: bool = True

    one_pass: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Zhou et al., 2016, Learning Deep Features for Discriminative Localization, "
        "arXiv:1512.04150, equations 1 and 2"
    )

    def weights_of(self, probe: Probe, image: Image, tap: Tapped) -> Iterator[Weights]:
        _check_pooled(tap)
        _check_linear(probe, image, tap)
        return (each.sum(spatial(each), keepdim=True) for each in tap.gradients)


_ELSE = "use method='gradcam' or 'hirescam', which need no such head"


def _tolerance(x: Tensor) -> float:
    return 1e-3 if x.dtype in (torch.float32, torch.float64) else 5e-2


def _check_pooled(tap: Tapped) -> None:
    """Refuse where the gradient differs from cell to cell: no global average pooling follows."""
    for gradients in tap.gradients:
        apart = (gradients - spatial_mean(gradients)).abs().flatten(1).amax(1)
        if bool((apart > _tolerance(tap.activations) * gradients.abs().flatten(1).amax(1)).any()):
            raise ValueError(
                f"expected global average pooling and one linear layer after {tap.layer!r}, as CAM "
                f"is defined; got a score whose gradient differs from cell to cell; {_ELSE}"
            )


def _check_linear(probe: Probe, image: Image, tap: Tapped) -> None:
    """Refuse where the score is no linear function of the pooled activations."""
    with probe.keeping(image, tap.layer) as clean:

        def score(change: Callable[[Tensor], Tensor]) -> Tensor:
            return probe.scores_with(image, tap.layer, change, len(image), clean).double()

        none, there, back = score(torch.zeros_like), score(lambda x: x), score(torch.neg)
    terms = [each.double() * tap.activations.double() for each in tap.gradients]
    slope = torch.stack([each.flatten(1).sum(1) for each in terms], 1)
    size = torch.stack([each.flatten(1).abs().sum(1) for each in terms], 1)
    apart = torch.maximum((there - none - slope).abs(), (back - none + slope).abs())
    # Beside a large bias, what the activations add is rounded to the score's last digits.
    rounded = 8 * torch.finfo(tap.activations.dtype).eps * torch.maximum(none.abs(), there.abs())
    if bool((apart > _tolerance(tap.activations) * size + rounded).any()):
        raise ValueError(
            f"expected global average pooling and one linear layer after {tap.layer!r}, as CAM is "
            f"defined; got a score that is not linear in the pooled activations; {_ELSE}"
        )


def channel_weights(weights: Tensor, tap: Tapped) -> Iterator[Weights]:
    """One weight per channel for each target, from ``(n, k, t)``."""
    ones = (1 for _ in spatial(tap.activations))
    shaped = weights.reshape(*weights.shape, *ones).to(wide(tap.activations))
    return (shaped[:, :, i] for i in range(weights.shape[2]))


@register("ablationcam")
@dataclass(frozen=True)
class AblationCAM(CAM):
    """Ablation-CAM: each channel counts by what the score loses without it.

    ``weights_k = (S - S_k) / S``, ``map = relu(sum_k weights_k A_k)``, where ``S_k`` is the score
    with channel k of the layer set to 0. No gradient is computed. Several channels share one run of
    what comes before the layer, unless the network needs those samples again later (skip
    connections).

    Where the score is negative, the paper's division turns the map round: it shows what speaks
    against the target. A note in the result says so; ``divide="magnitude"`` never does it. Nothing
    is divided by 0.

    Args:
        divide: ``"score"`` as in the paper; ``"magnitude"`` by ``|S|``; ``"norm"`` by the
            channel's Euclidean norm, the slope that the paper starts from; ``"none"``.
        batch: samples in one pass of the model.
    """

    divide: Divide = "score"
    batch: int = 8

    one_pass: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Desai and Ramaswamy, 2020, Ablation-CAM: Visual Explanations for Deep Convolutional "
        "Network via Gradient-free Localization, doi:10.1109/WACV45572.2020.9093360, section 3"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("batch", self.batch)
        if self.divide not in ("score", "magnitude", "norm", "none"):
            raise ValueError(
                f"expected divide of ['score', 'magnitude', 'norm', 'none'], got {self.divide!r}"
            )

    def weights_of(self, probe: Probe, image: Image, tap: Tapped) -> Iterator[Weights]:
        whole, *without = _ablated_scores(probe, image, tap, self.batch)
        losses = whole[:, None] - torch.stack(without, 1)
        below = torch.ones_like(losses)
        if self.divide == "norm":
            below = wide(tap.activations).flatten(2).norm(dim=2)[..., None].expand_as(losses)
        elif self.divide != "none":
            below = (whole if self.divide == "score" else whole.abs())[:, None].expand_as(losses)
        if bool((below < 0).any()):
            probe.record.note(_NEGATIVE)
        return channel_weights(losses / torch.where(below == 0, 1, below), tap)


_NEGATIVE = (
    "Ablation-CAM of a negative score shows what speaks against the target, as the paper divides "
    "by the score; divide='magnitude' shows what speaks for it"
)


def _ablated_scores(probe: Probe, image: Image, tap: Tapped, batch: int) -> Iterator[Tensor]:
    """The scores ``(n, t)`` with nothing, then with each channel of the layer set to 0."""
    samples, count = tap.activations.shape[:2]
    times = min(places(probe, samples, batch), count)
    with probe.keeping(image, tap.layer) as clean:
        whole = wide(probe.scores_kept(clean))
        yield whole
        if times == 1 or _shares(probe, image, tap.layer, whole, clean):
            for group in _groups(count, times):
                yield from _scores_without(probe, image, tap.layer, group, samples, clean)
            return
    images = torch.cat([image] * times)
    with probe.keeping(images, tap.layer) as clean:
        for group in _groups(count, times):
            filled = [*group, *[None] * (times - len(group))]
            found = _scores_without(probe, images, tap.layer, filled, samples, clean)
            yield from islice(found, len(group))


def _groups(count: int, size: int) -> Iterator[list[int]]:
    return (list(range(i, min(i + size, count))) for i in range(0, count, size))


def _scores_without(
    probe: Probe,
    image: Image,
    layer: str,
    channels: Sequence[int | None],
    samples: int,
    clean: CleanPass,
) -> Iterator[Tensor]:
    """The scores ``(n, t)`` without each of the channels, from one pass."""
    times = len(channels)

    def change(features: Tensor) -> Tensor:
        copies = features.clone() if len(image) > samples else torch.cat([features] * times)
        for copy, channel in zip(torch.split(copies, samples), channels, strict=True):
            if channel is not None:
                copy[:, channel] = 0
        return copies

    asked = repeated(probe, times, samples)
    scores = wide(asked.scores_with(image, layer, change, times * samples, clean))
    return iter(torch.split(scores, samples))


def _shares(probe: Probe, image: Image, layer: str, whole: Tensor, clean: CleanPass) -> bool:
    """Whether what follows a layer runs on more samples than the image has."""
    try:
        both = list(_scores_without(probe, image, layer, [None, None], len(image), clean))
    except (RuntimeError, ValueError, IndexError):
        return False
    tolerance = _tolerance(image) * (1 + whole.abs().amax())
    return all(bool(((each - whole).abs() <= tolerance).all()) for each in both)
