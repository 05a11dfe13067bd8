"""Methods made of methods."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from medsal.methods.cam import GradCAM, Layers
from medsal.methods.gradient import GuidedBackprop, VoxelMethod
from medsal.methods.registry import register
from medsal.probe import Probe
from medsal.types import Image


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
