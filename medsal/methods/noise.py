"""Averages over an image with noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from medsal.methods.gradient import VoxelMethod
from medsal.methods.many import check_count, gradients_of
from medsal.methods.registry import register
from medsal.probe import Probe
from medsal.types import Image

Form = Literal["mean", "squared", "variance"]


@register("smoothgrad")
@dataclass(frozen=True)
class SmoothGrad(VoxelMethod):
    """The gradient averaged over noisy copies of the image; signed.

    ``map = 1/N sum_j dS/dx (x + noise_j)``, noise normal with the standard deviation ``sigma`` of
    the image's value range (section 3). Two variants: the mean of the gradients' squares
    (SmoothGrad-squared, Hooker et al., 2019, arXiv:1806.10758), and their variance
    ``E g^2 - (E g)^2`` (VarGrad, Adebayo et al., 2018, arXiv:1810.03307), each for one channel of
    the image and then reduced by ``channels``.

    The range is each sample's own, over all its channels; all samples of a batch see the same
    normal numbers, so no map depends on its neighbours.

    Args:
        samples: noisy copies.
        sigma: the noise's standard deviation as a share of the range from the image's smallest to
            its largest value; the paper finds 0.1 to 0.2 good.
        form: ``"mean"``, ``"squared"`` or ``"variance"``.
        seed: of the noise; the global random state is not touched.
        batch: samples in one pass of the model; each holds a graph.
    """

    samples: int = 50
    sigma: int | float = 0.15
    form: Form = "mean"
    seed: int = 0
    batch: int = 1

    source: ClassVar[str] = (
        "Smilkov et al., 2017, SmoothGrad: removing noise by adding noise, arXiv:1706.03825, "
        "section 3"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_noise(self.samples, self.sigma)
        check_count("batch", self.batch)
        if self.form not in ("mean", "squared", "variance"):
            raise ValueError(
                f"expected a form of ['mean', 'squared', 'variance'], got {self.form!r}"
            )

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        copies = noisy(image, self.samples, self.sigma, self.seed)
        gradients = gradients_of(probe, copies, self.batch)
        if self.form == "squared":
            gradients = (each.square() for each in gradients)
        mean, variance = _moments(gradients)
        return variance if self.form == "variance" else mean


def check_noise(samples: int, sigma: int | float) -> None:
    """Refuse options that make no noise.

    Raises:
        ValueError: for fewer than one sample or a negative sigma.
    """
    check_count("samples", samples)
    if not sigma >= 0:
        raise ValueError(f"expected sigma as a share of the value range, 0 or more, got {sigma!r}")


def noisy(image: Image, samples: int, sigma: int | float, seed: int) -> Iterator[Image]:
    """Copies of a batch with normal noise, one by one.

    The numbers are drawn on the host in float32, so they are the same on every device and for every
    number format.
    """
    generator = torch.Generator().manual_seed(seed)
    values = image.flatten(1)
    span = (values.amax(1) - values.amin(1)).reshape(-1, *(1 for _ in image.shape[1:]))
    for _ in range(samples):
        noise = torch.randn(image.shape[1:], generator=generator)
        yield image + sigma * span * noise.to(image)


def _moments(tensors: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean and the variance (over N) of many tensors, one at a time, without cancellation."""
    mean = next(tensors).clone()
    spread, count = torch.zeros_like(mean), 1
    for each in tensors:
        count += 1
        before = each - mean
        mean = mean + before / count
        spread = spread + before * (each - mean)
    return mean, spread / count
