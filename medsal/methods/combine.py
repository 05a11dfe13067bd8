"""Methods made of methods."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

from torch import Tensor

from medsal.methods.cam import GradCAM, Layers
from medsal.methods.gradient import GuidedBackprop, VoxelMethod
from medsal.methods.many import answers, check_count, streamed_sum
from medsal.methods.noise import check_noise, noisy
from medsal.methods.registry import Explainer, Method, get_method, maps_of, register
from medsal.ops import spatial
from medsal.probe import Probe
from medsal.types import Image, Map, Scores, Target


@register("guided_gradcam")
@dataclass(frozen=True)
class GuidedGradCAM(VoxelMethod):
    """Guided Backpropagation times the upsampled Grad-CAM, voxel by voxel; signed.

    Fine detail from the one, the class from the other (section 3.2). Two passes: Grad-CAM's
    gradients are the ordinary ones. The product is taken for each channel of the image, and summed
    over channels unless ``channels`` says otherwise.

    Args:
        layer: the layer of Grad-CAM, or several; None = the last one that still has all spatial
            axes.
    """

    layer: Layers = None

    one_pass: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Selvaraju et al., 2017, Grad-CAM: Visual Explanations from Deep Networks via "
        "Gradient-based Localization, arXiv:1610.02391, section 3.2"
    )

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        where = GradCAM(self.layer)(probe, image)
        return GuidedBackprop().attributions(probe, image) * where[:, :, None]


@dataclass(frozen=True)
class Smooth(Method):
    """Any method averaged over noisy copies of the image.

    ``map = 1/N sum_j M(x + noise_j)``, the noise as in `SmoothGrad`: of a signed gradient it is
    SmoothGrad. Every sample of a batch sees the same normal numbers.

    Args:
        method: a method, or the name of one.
        samples: noisy copies.
        sigma: the noise's standard deviation as a share of the sample's value range.
        seed: of the noise; the global random state is not touched.
        batch: samples in one pass of the model.
    """

    method: Explainer | str
    samples: int = 16
    sigma: int | float = 0.15
    seed: int = 0
    batch: int = 1

    name: ClassVar[str] = "smooth"
    source: ClassVar[str] = (
        "Smilkov et al., 2017, SmoothGrad: removing noise by adding noise, arXiv:1706.03825, "
        "section 3, for any method"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", _method(self.method))
        check_noise(self.samples, self.sigma)
        check_count("batch", self.batch)

    def __call__(self, probe: Probe, image: Image) -> Map:
        def ask(asked: Probe, copies: Image) -> Tensor:
            return maps_of(_method(self.method), asked, copies)

        copies = noisy(image, self.samples, self.sigma, self.seed)
        maps = answers(ask, probe, copies, self.batch)
        return streamed_sum(maps, [1 / self.samples] * self.samples)


@dataclass(frozen=True)
class Mirrored(Method):
    """Any method averaged over the image and its mirror images, each map mirrored back.

    A network's strides put the cells of a map beside where they belong; in the mirror, beside it on
    the other side. The average has no such bias, whatever the network learned. Of a segmentation,
    the output is mirrored back before the target sees it, so a region stays where it is.

    Args:
        method: a method, or the name of one.
        passes: 2 = the image, and mirrored along all axes; 2 to the power of the number of axes =
            along every choice of axes.
    """

    method: Explainer | str
    passes: int = 2

    name: ClassVar[str] = "mirrored"
    source: ClassVar[str] = "test-time augmentation by mirroring; no paper defines it for maps"

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", _method(self.method))
        if self.passes not in (2, 4, 8):
            raise ValueError(
                f"expected passes of 2, or 2 to the power of the image's axes, got {self.passes!r}"
            )

    def __call__(self, probe: Probe, image: Image) -> Map:
        maps = (self._map(probe, image, axes) for axes in self._choices(image))
        return streamed_sum(maps, [1 / self.passes] * self.passes)

    def _map(self, probe: Probe, image: Image, axes: tuple[int, ...]) -> Map:
        targets = tuple(MirroredBack(each, axes, image.ndim) for each in probe.targets)
        target = targets if isinstance(probe.target, tuple) else targets[0]
        mirrored = maps_of(_method(self.method), replace(probe, target=target), image.flip(axes))
        return mirrored.flip(axes)

    def _choices(self, image: Image) -> list[tuple[int, ...]]:
        axes = spatial(image)
        every = [
            tuple(axis for axis, chosen in zip(axes, choice, strict=True) if chosen)
            for choice in product((False, True), repeat=len(axes))
        ]
        if self.passes not in (2, len(every)):
            raise ValueError(
                f"expected passes of 2 or {len(every)} for an image with {len(axes)} axes, got "
                f"{self.passes}"
            )
        return every if self.passes == len(every) else [every[0], every[-1]]


@dataclass(frozen=True)
class MirroredBack:
    """A target that sees the output for a mirrored image mirrored back.

    Args:
        target: the target of the image as it is.
        axes: along which the image was mirrored.
        ndim: the axes of the image; outputs that have as many are maps of voxels.
    """

    target: Target
    axes: tuple[int, ...]
    ndim: int

    def __call__(self, output: Any) -> Scores:
        return self.target(self._back(output))

    def _back(self, output: Any) -> Any:
        if isinstance(output, Tensor):
            return output.flip(self.axes) if output.ndim == self.ndim else output
        if isinstance(output, Mapping):
            return {key: self._back(value) for key, value in output.items()}
        if isinstance(output, tuple | list):
            return [self._back(value) for value in output]
        return output


def _method(method: Explainer | str) -> Explainer:
    if isinstance(method, str):
        return get_method(method)
    if not callable(method) or isinstance(method, type):
        raise TypeError(
            f"expected a method such as medsal.GradCAM() or its name, got {method!r}"
            + ("; call it to make one" if isinstance(method, type) else "")
        )
    return method
