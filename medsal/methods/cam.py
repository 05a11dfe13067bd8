"""Class activation maps: a layer's activations, weighted by what their gradients say.

A new one is a class with a source and a `weights` of activations and gradients. Letters in the
formulas: ``A_ki`` the activation of channel k at cell i, ``g_ki`` the score's gradient by it.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from medsal.methods.many import wide
from medsal.methods.registry import Method, register
from medsal.ops import resize, spatial, spatial_mean
from medsal.probe import Probe, Tapped
from medsal.types import Features, Image, Map, Weights

Layers = str | Sequence[str] | None


@dataclass(frozen=True)
class CAM(Method):
    """A sum of a layer's channels, weighted, rectified and upsampled linearly to the image's grid.

    Several layers are fused as LayerCAM does it: each map is scaled by ``tanh(2 M / max M)`` and
    the largest value is taken voxel by voxel (Jiang et al., 2021, LayerCAM,
    doi:10.1109/TIP.2021.3089943, equation 9; here for every layer and after upsampling). Of signed
    maps, the value of the largest magnitude is taken.

    Args:
        layer: dotted name of the layer, or several; None = the last one that still has all spatial
            axes.
        signed: keep what speaks against the target, as negative values.
        shift: how far the map is moved along each axis, towards higher indices [voxels of the
            image], the same for all layers; None = not at all, as everywhere. Where a layer's
            cells sit in the image, no network says; `medsal.evaluate.placement` measures it.
    """

    layer: Layers = None
    signed: bool = False
    shift: Sequence[int | float] | None = field(default=None, kw_only=True)

    one_pass: ClassVar[bool] = True
    by_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str | None):
            object.__setattr__(self, "layer", tuple(self.layer))
        if not all(isinstance(name, str) and name for name in self.names or ("-",)):
            raise TypeError(f"expected layers as dotted names, got {self.layer!r}")
        if self.layer is not None and not self.names:
            raise ValueError("expected at least one layer, got none; layer=None is the default one")
        object.__setattr__(self, "shift", checked_shift(self.shift))

    @property
    def names(self) -> tuple[str, ...]:
        """The layers that were asked for; empty for the default one."""
        if self.layer is None:
            return ()
        return (self.layer,) if isinstance(self.layer, str) else tuple(self.layer)

    def weights(self, activations: Features, gradients: Features) -> Weights:
        """What each channel, or each of its cells, counts for; broadcast against activations."""
        raise TypeError(f"{type(self).__name__} needs a method weights(activations, gradients)")

    def weights_of(self, probe: Probe, image: Image, tap: Tapped) -> Iterator[Weights]:
        """The weights for each target of the probe."""
        activations = wide(tap.activations)
        return (self.weights(activations, gradients) for gradients in tap.gradients)

    def __call__(self, probe: Probe, image: Image) -> Map:
        taps = probe.taps(image, self.names or None, self.by_gradient)
        size = image.shape[2:]
        maps = [resize(self.coarse(probe, image, tap), size, self.shift) for tap in taps]
        return maps[0] if len(maps) == 1 else fused(maps)

    def coarse(self, probe: Probe, image: Image, tap: Tapped) -> Tensor:
        """The maps on the layer's own grid, ``(n, t, *f)``."""
        activations = wide(tap.activations)
        weights = self.weights_of(probe, image, tap)
        maps = torch.cat([(each * activations).sum(1, keepdim=True) for each in weights], 1)
        return maps if self.signed else maps.relu()


def checked_shift(shift: Any) -> tuple[float, ...] | None:
    """The shift as a tuple of floats, so that methods with equal shifts are equal.

    Raises:
        TypeError: when it is no sequence of numbers.
        ValueError: when one of them is not finite.
    """
    if shift is None:
        return None
    try:
        found = tuple(float(each) for each in shift)
    except (TypeError, ValueError):
        raise TypeError(f"expected a shift as one number for each axis, got {shift!r}") from None
    if not all(map(math.isfinite, found)):
        raise ValueError(f"expected a shift of finite numbers of voxels, got {shift!r}")
    return found


def fused(maps: Sequence[Tensor], gamma: float = 2.0) -> Map:
    """Maps of several layers as one: scaled by tanh, the largest magnitude of each voxel.

    Args:
        maps: each ``(n, t, *s)``.
        gamma: the scale inside the tanh; 2 in the paper.
    """
    result = torch.zeros_like(maps[0])
    for each in maps:
        peak = each.abs().amax(spatial(each), keepdim=True)
        scaled = torch.tanh(gamma * each / torch.where(peak > 0, peak, 1))
        result = torch.where(scaled.abs() > result.abs(), scaled, result)
    return result


@register("gradcam")
@dataclass(frozen=True)
class GradCAM(CAM):
    """Grad-CAM: each channel counts by the mean of its gradient.

    ``weights_k = mean_i g_ki``, ``map = relu(sum_k weights_k A_k)`` for activations ``A`` and the
    score's gradients ``g`` by them (equations 1 and 2). The score is the class's logit, before any
    softmax.
    """

    source: ClassVar[str] = (
        "Selvaraju et al., 2017, Grad-CAM: Visual Explanations from Deep Networks via "
        "Gradient-based Localization, arXiv:1610.02391, equations 1 and 2"
    )

    def weights(self, activations: Features, gradients: Features) -> Weights:
        return spatial_mean(gradients)


@register("gradcam++")
@dataclass(frozen=True)
class GradCAMPlusPlus(CAM):
    """Grad-CAM++: each cell's positive gradient counts, less where the whole channel is active.

    ``alpha_ki = g_ki^2 / (2 g_ki^2 + (sum_j A_kj) g_ki^3)`` (equation 19),
    ``weights_k = sum_i alpha_ki relu(g_ki)`` (equation 5), ``map = relu(sum_k weights_k A_k)``. The
    fraction is reduced by ``g^2``, so gradients of any size count alike; no epsilon is added. Where
    the denominator is 0, which needs negative activations, alpha is 0.

    It departs from the paper in one factor: there the score is ``exp(S)``, so each weight has the
    factor ``exp(S)``, the same for all channels of a map. It overflows for S above 88 and changes
    nothing but the map's scale; it is left out. As in the paper, the third derivatives are those of
    a network of ReLUs. Meant for a layer whose activations are not negative.
    """

    source: ClassVar[str] = (
        "Chattopadhyay et al., 2018, Grad-CAM++: Improved Visual Explanations for Deep "
        "Convolutional Networks, arXiv:1710.11063, equations 5 and 19"
    )

    def weights(self, activations: Features, gradients: Features) -> Weights:
        total = activations.sum(spatial(activations), keepdim=True)
        below = 2 + total * gradients
        alpha = torch.where(below == 0, 0, 1 / torch.where(below == 0, 1, below))
        return (alpha * gradients.relu()).sum(spatial(gradients), keepdim=True)


@register("hirescam")
@dataclass(frozen=True)
class HiResCAM(CAM):
    """HiResCAM: each cell counts by its own gradient; signed.

    ``map_i = sum_k g_ki A_ki`` , without a ReLU: where the layer is followed by one
    linear layer, the map's sum on the layer's grid is the score less the bias.
    """

    signed: bool = True

    source: ClassVar[str] = (
        "Draelos and Carin, 2020, Use HiResCAM instead of Grad-CAM for faithful explanations of "
        "convolutional neural networks, arXiv:2011.08891, section 3"
    )

    def weights(self, activations: Features, gradients: Features) -> Weights:
        return gradients


@register("layercam")
@dataclass(frozen=True)
class LayerCAM(CAM):
    """LayerCAM: each cell counts by its own gradient where that is positive.

    ``map_i = relu(sum_k relu(g_ki) A_ki)`` (equations 5 to 7). Made for early layers, and for
    several at once.
    """

    source: ClassVar[str] = (
        "Jiang et al., 2021, LayerCAM: Exploring Hierarchical Class Activation Maps for "
        "Localization, IEEE Transactions on Image Processing 30, doi:10.1109/TIP.2021.3089943, "
        "equations 5 to 7 and 9"
    )

    def weights(self, activations: Features, gradients: Features) -> Weights:
        return gradients.relu()


@register("xgradcam")
@dataclass(frozen=True)
class XGradCAM(CAM):
    """XGrad-CAM: each channel counts by its gradients' mean, weighted by its activations.

    ``weights_k = sum_i g_ki A_ki / sum_j A_kj``, ``map = relu(sum_k weights_k A_k)``.
    A channel whose activations sum to 0 counts for nothing; the authors' code adds an epsilon
    instead. With ``signed=True`` the map's sum on the layer's grid is ``sum_ki g_ki A_ki``.
    """

    source: ClassVar[str] = (
        "Fu et al., 2020, Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of "
        "CNNs, arXiv:2008.02312, section 3"
    )

    def weights(self, activations: Features, gradients: Features) -> Weights:
        total = activations.sum(spatial(activations), keepdim=True)
        weighted = (gradients * activations).sum(spatial(activations), keepdim=True)
        return torch.where(total == 0, 0, weighted / torch.where(total == 0, 1, total))


@register("eigencam")
@dataclass(frozen=True)
class EigenCAM(CAM):
    """Eigen-CAM: the layer's activations along their first principal direction; no class in it.

    ``map = A v`` for the cells-by-channels matrix ``A = U S V^T`` and its first right singular
    vector ``v``, without centring. It shows what the layer responds to most, whatever the target:
    all targets get the same map, and no gradient is computed. The sign of ``v``, which the paper
    leaves open, is chosen so that the map's sum is not negative. ``v`` comes from the smaller of
    ``A^T A`` and ``A A^T``, in float64.
    """

    signed: bool = True

    by_gradient: ClassVar[bool] = False
    source: ClassVar[str] = (
        "Muhammad and Yeasin, 2020, Eigen-CAM: Class Activation Map using Principal Components, "
        "arXiv:2008.00299"
    )

    def weights_of(self, probe: Probe, image: Image, tap: Tapped) -> Iterator[Weights]:
        activations = wide(tap.activations)
        direction = torch.stack([_first_direction(each.flatten(1)) for each in activations])
        shaped = direction.reshape(*direction.shape, *(1 for _ in spatial(activations)))
        return (shaped.to(activations) for _ in probe.targets)


def _first_direction(channels: Tensor) -> Tensor:
    """The first left singular vector of ``(k, cells)``, ``(k,)``."""
    vector: Tensor
    # On the host in float64: the products square the condition number, some devices lack float64.
    matrix = channels.double().cpu()
    matrix = matrix / matrix.abs().max().clamp(min=torch.finfo(matrix.dtype).tiny)
    if len(matrix) <= matrix.shape[1]:
        vector = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -1]
    else:
        vector = matrix @ torch.linalg.eigh(matrix.T @ matrix).eigenvectors[:, -1]
        vector = vector / vector.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    return -vector if (vector @ matrix).sum() < 0 else vector
