"""Methods made of methods."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, product
from typing import Any, ClassVar

import torch
from torch import Tensor

from medsal.methods.cam import GradCAM, Layers
from medsal.methods.gradient import GuidedBackprop, VoxelMethod
from medsal.methods.many import answers, check_count, part_of_batch, places, streamed_sum
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
        shift: how far Grad-CAM's map is moved along each axis [voxels of the image], see `CAM`.
    """

    layer: Layers = None
    shift: Sequence[int | float] | None = field(default=None, kw_only=True)

    one_pass: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Selvaraju et al., 2017, Grad-CAM: Visual Explanations from Deep Networks via "
        "Gradient-based Localization, arXiv:1610.02391, section 3.2"
    )

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        where = GradCAM(self.layer, shift=self.shift)(probe, image)
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

    def predict(self, probe: Probe, image: Image) -> Any:
        return _predicted(self.method, probe, image)

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
    the other side. The average has no such bias, whatever the network learned: mirrored, an image
    has the mirrored map, exactly (with two passes, when it is mirrored along all axes). Of a
    segmentation, the output is mirrored back before the target sees it, so a region stays where
    it is.

    Args:
        method: a method, or the name of one.
        passes: 2 = the image, and mirrored along all axes; 2 to the power of the number of axes =
            along every choice of axes.
        batch: samples in one pass of the model.
    """

    method: Explainer | str
    passes: int = 2
    batch: int = 1

    name: ClassVar[str] = "mirrored"
    source: ClassVar[str] = "test-time augmentation by mirroring; no paper defines it for maps"

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", _method(self.method))
        if self.passes not in (2, 4, 8):
            raise ValueError(
                f"expected passes of 2, or 2 to the power of the image's axes, got {self.passes!r}"
            )
        check_count("batch", self.batch)

    def predict(self, probe: Probe, image: Image) -> Any:
        return _predicted(self.method, probe, image)

    def __call__(self, probe: Probe, image: Image) -> Map:
        return streamed_sum(self._maps(probe, image), [1 / self.passes] * self.passes)

    def _maps(self, probe: Probe, image: Image) -> Iterator[Map]:
        """The map of each mirror image, mirrored back."""
        choices = iter(self._choices(image))
        samples = len(image)
        while group := list(islice(choices, places(probe, samples, self.batch))):
            targets = tuple(
                Mirrors(each, tuple(group), image.ndim, samples) for each in probe.targets
            )
            asked = replace(
                probe, target=targets if isinstance(probe.target, tuple) else targets[0]
            )
            mirrored = torch.cat([image.flip(axes) for axes in group])
            maps = torch.split(maps_of(_method(self.method), asked, mirrored), samples)
            yield from (each.flip(axes) for each, axes in zip(maps, group, strict=True))

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
class Mirrors:
    """A target that sees the output for several mirror images of a batch, each mirrored back.

    Args:
        target: the target of the batch as it is.
        choices: along which axes each of the images was mirrored.
        ndim: the axes of the image; outputs that have as many are maps of voxels.
        samples: how many samples the batch has.
    """

    target: Target
    choices: tuple[tuple[int, ...], ...]
    ndim: int
    samples: int

    def __call__(self, output: Any) -> Scores:
        scores = []
        for i, axes in enumerate(self.choices):
            part = part_of_batch(output, i, len(self.choices), self.samples)
            scores.append(self.target(_mirrored_back(part, axes, self.ndim)))
        return scores[0] if len(scores) == 1 else torch.cat(scores)


def _mirrored_back(output: Any, axes: tuple[int, ...], ndim: int) -> Any:
    if isinstance(output, Tensor):
        return output.flip(axes) if output.ndim == ndim else output
    if isinstance(output, Mapping):
        return {key: _mirrored_back(value, axes, ndim) for key, value in output.items()}
    if isinstance(output, tuple | list):
        return [_mirrored_back(value, axes, ndim) for value in output]
    return output


def _predicted(method: Explainer | str, probe: Probe, image: Image) -> Any:
    """What the inner method predicts: over windows, say."""
    inner = _method(method)
    return inner.predict(probe, image) if isinstance(inner, Method) else probe.output(image)


def _method(method: Explainer | str) -> Explainer:
    if isinstance(method, str):
        return get_method(method)
    if not callable(method) or isinstance(method, type):
        raise TypeError(
            f"expected a method such as medsal.GradCAM() or its name, got {method!r}"
            + ("; call it to make one" if isinstance(method, type) else "")
        )
    return method
