"""Maps from the score's gradient by the image's voxels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from medsal.methods.many import wide
from medsal.methods.registry import Method, register
from medsal.probe import Probe
from medsal.types import Image, Map

Channels = Literal["sum", "max", "norm"]
# From (n, t, c, *s) to (n, t, *s): the image's channels are the third axis.
_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda g: g.sum(2),
    "max": lambda g: g.abs().amax(2),
    "norm": lambda g: g.norm(dim=2),
}


@dataclass(frozen=True)
class VoxelMethod(Method):
    """A number for each voxel and channel, reduced over the image's channels.

    Args:
        channels: ``"sum"`` keeps the sign; ``"max"`` is the largest magnitude, ``"norm"`` the
            Euclidean one.
    """

    channels: Channels = "sum"

    def __post_init__(self) -> None:
        if self.channels not in _REDUCTIONS:
            raise ValueError(f"expected channels of {list(_REDUCTIONS)}, got {self.channels!r}")

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        """A number for each voxel, channel and target, ``(n, t, c, *s)``."""
        raise TypeError(f"{type(self).__name__} needs a method attributions(probe, image)")

    def __call__(self, probe: Probe, image: Image) -> Map:
        return _REDUCTIONS[self.channels](self.attributions(probe, image))


@register("gradient")
@dataclass(frozen=True)
class Gradient(VoxelMethod):
    """The gradient of the score by each voxel: its largest magnitude over the image's channels.

    ``map_i = max_c |dS / dx_ci|`` (section 3). ``channels="sum"`` keeps the sign.
    """

    channels: Channels = "max"

    one_pass: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Simonyan et al., 2013, Deep Inside Convolutional Networks: Visualising Image "
        "Classification Models and Saliency Maps, arXiv:1312.6034, section 3"
    )

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        return probe.gradients(image)


@register("guided_backprop")
@dataclass(frozen=True)
class GuidedBackprop(VoxelMethod):
    """The gradient by each voxel where every ReLU lets only positive gradients pass; signed.

    At each ReLU: ``g * [x > 0] * [g > 0]`` (section 3.4). The paper shows the image's channels as
    colours; here they are summed unless ``channels`` says otherwise. Defined for ReLU alone, as a
    module, a function, in place, shared, capped (ReLU6) or as a clamp at 0: refused where a model
    has none, or other activations besides. One that is written out as a product with a mask is not
    seen.

    It shows edges that excite the network, hardly depends on the class, and little on the weights
    (Adebayo et al., 2018, arXiv:1810.03292): no map to judge a network by.
    """

    one_pass: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Springenberg et al., 2015, Striving for Simplicity: The All Convolutional Net, "
        "arXiv:1412.6806, section 3.4"
    )

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        return probe.gradients(image, relus="guided")


@register("deconvnet")
@dataclass(frozen=True)
class Deconvnet(VoxelMethod):
    """The gradient by each voxel where every ReLU rectifies what comes back; signed.

    At each ReLU: ``g * [g > 0]``, whatever its input was; pooling goes back through the places of
    its maxima (section 2.1). The paper shows the image's channels as colours and starts from one
    feature; here it starts from the score, and the channels are summed unless ``channels`` says
    otherwise. Refused where a model has no ReLU, or other activations besides.

    As with guided backpropagation, little in it depends on the class.
    """

    one_pass: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Zeiler and Fergus, 2014, Visualizing and Understanding Convolutional Networks, "
        "arXiv:1311.2901, section 2.1"
    )

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        return probe.gradients(image, relus="deconvnet")


@register("input_x_gradient")
@dataclass(frozen=True)
class InputXGradient(VoxelMethod):
    """The gradient by each voxel times the voxel's value; signed.

    ``map_ci = x_ci dS/dx_ci``, summed over the channels. Of a linear score without bias the sum is
    the score. It is 0 wherever the image is.
    """

    one_pass: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Shrikumar et al., 2016, Not Just a Black Box: Learning Important Features Through "
        "Propagating Activation Differences, arXiv:1605.01713"
    )

    def attributions(self, probe: Probe, image: Image) -> Tensor:
        return probe.gradients(image) * wide(image)[:, None]
