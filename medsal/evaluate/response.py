"""Does the map answer for what happens to the score, and stay itself when nothing much happens?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medsal.evaluate.arguments import checked_map, map_of, one_target, settled, shaped
from medsal.methods import Explainer
from medsal.methods.baseline import Baseline, baseline_of, check_baseline
from medsal.methods.many import check_count, scores_of, wide
from medsal.ops import spatial
from medsal.probe import Probe, plain, quietly
from medsal.types import Image, Map, Scores

Perturbation = Callable[[Image, torch.Generator], tuple[Tensor, Image]]
"""From an image and a source of random numbers on the host to what the map is multiplied with,
``(n, 1, *s)``, and the changed image, ``(n, c, *s)``."""


@dataclass(frozen=True)
class Noise:
    """Normal noise, the same in all channels: for maps that say how the score changes, gradients.

    Args:
        sigma: the standard deviation as a share of the sample's value range.
    """

    sigma: float | int = 0.05

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"expected sigma as a share of the value range, got {self.sigma!r}")

    def __call__(self, image: Image, generator: torch.Generator) -> tuple[Tensor, Image]:
        drawn = torch.randn((1, 1, *image.shape[2:]), generator=generator).to(wide(image))
        noise = self.sigma * _span(image) * drawn
        return noise, (image - noise).to(image.dtype)


@dataclass(frozen=True)
class Removal:
    """A box at a random place shows the baseline: for maps that share out the score.

    Args:
        width: the box's edge, as a share of each axis.
        baseline: what a hidden voxel shows: a number, ``"mean"``, ``"blur"`` or a tensor.
    """

    width: float | int = 0.25
    baseline: Baseline = "blur"

    def __post_init__(self) -> None:
        if not 0 < self.width <= 1:
            raise ValueError(f"expected width as a share of the axis, got {self.width!r}")
        check_baseline("baseline", self.baseline)

    def __call__(self, image: Image, generator: torch.Generator) -> tuple[Tensor, Image]:
        hidden = torch.zeros(1, 1, *image.shape[2:], dtype=torch.bool, device=image.device)
        window = hidden
        for axis in spatial(image):
            edge = max(1, round(self.width * image.shape[axis]))
            start = int(torch.randint(image.shape[axis] - edge + 1, (), generator=generator))
            window = window.narrow(axis, start, edge)
        window.fill_(True)
        filled = torch.where(hidden, baseline_of(image, self.baseline), image)
        return hidden.to(wide(image)).expand(len(image), *hidden.shape[1:]), filled


@quietly()
def infidelity(
    probe: Probe,
    image: Image,
    saliency: Tensor,
    *,
    perturbation: Perturbation = Noise(),
    samples: int = 64,
    scaled: bool = True,
    seed: int = 0,
    batch: int = 8,
) -> Scores:
    """How far the map is from answering for the score's changes, ``(n,)``; low is good.

    ``mean over perturbations I of (beta I . M - (S(x) - S(x changed by I)))^2``, in the score's
    unit, squared. ``scaled``: beta is the factor that fits best, since a map's unit says nothing,
    ``beta = sum (I . M) dS / sum (I . M)^2`` (0 where the map gives 0 each time); else 1.

    Source: Yeh et al., 2019, "On the (In)fidelity and Sensitivity of Explanations",
    arXiv:1901.09392, definition 2.1; the scale as in captum's ``infidelity(normalize=True)``.

    Args:
        probe: with one target, which is settled at the image.
        image: ``(n, c, *s)``.
        saliency: ``(n, 1, *s)``; of several channels, their sum.
        perturbation: `Noise`, `Removal`, or any other.
        samples: perturbations; all samples of a batch see the same.
        scaled: fit the map's scale.
        seed: of the perturbations; the global random state is not touched.
        batch: samples in one pass of the model.

    Raises:
        ValueError: when the map does not fit the image, or an option is out of its range.
    """
    check_count("samples", samples)
    check_count("batch", batch)
    image = plain(image)
    weights = wide(checked_map(saliency, image))
    generator = torch.Generator().manual_seed(seed)
    said: list[Tensor] = []

    def images() -> Iterator[Image]:
        yield image
        for _ in range(samples):
            step, changed = perturbation(image, generator)
            said.append((step * weights).flatten(1).sum(1).double())
            yield changed

    scores = torch.cat(list(scores_of(settled(one_target(probe), image), images(), batch)), 1)
    lost = (scores[:, :1] - scores[:, 1:]).double()
    answer = torch.stack(said, 1)
    if scaled:
        length = answer.square().sum(1, keepdim=True)
        product = (answer * lost).sum(1, keepdim=True)
        answer = answer * torch.where(length > 0, product / torch.where(length > 0, length, 1), 0)
    return (answer - lost).square().mean(1).float()


@quietly()
def max_sensitivity(
    probe: Probe,
    image: Image,
    method: Explainer,
    *,
    radius: float | int = 0.02,
    samples: int = 10,
    seed: int = 0,
) -> Scores:
    """How far the map moves when the image hardly does, ``(n,)``; low is good.

    ``max over y of |M(y) - M(x)| / |M(x)|``, Euclidean, for images y within ``radius`` of x in
    each voxel, drawn uniformly: what is found is a lower bound. Of an empty map, 0 where it stays
    empty, else infinite.

    Source: Yeh et al., 2019, arXiv:1901.09392, definition 3.1; divided by the map's norm, as in
    captum's ``sensitivity_max``.

    Args:
        probe: with one target, which is settled at the image.
        image: ``(n, c, *s)``.
        method: what makes the maps.
        radius: as a share of the sample's value range.
        samples: images drawn; all samples of a batch see the same numbers.
        seed: of what is drawn; the global random state is not touched.

    Raises:
        ValueError: when an option is out of its range.
    """
    check_count("samples", samples)
    if not radius >= 0:
        raise ValueError(f"expected radius as a share of the value range, got {radius!r}")
    image = plain(image)
    asked = settled(one_target(probe), image, method)
    whole = map_of(method, asked, image)
    generator = torch.Generator().manual_seed(seed)
    farthest = torch.zeros(len(image), dtype=torch.float64, device=image.device)
    for _ in range(samples):
        drawn = torch.rand(image.shape[1:], generator=generator).to(wide(image)) * 2 - 1
        near = (image + radius * _span(image) * drawn).to(image.dtype)
        farthest = farthest.maximum(_length(map_of(method, asked, near) - whole))
    length = _length(whole)
    found = torch.where(farthest > 0, farthest / length, 0)
    return found.float()


def _span(image: Image) -> Tensor:
    """From each sample's smallest to its largest value."""
    low, high = image.flatten(1).aminmax(dim=1)
    return shaped(wide(high - low), image)


def _length(saliency: Map) -> Tensor:
    return saliency.flatten(1).double().square().sum(1).sqrt()
