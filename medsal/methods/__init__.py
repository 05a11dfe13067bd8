"""The methods, each registered in `METHODS` by its paper's name."""

from medsal.methods.cam import (
    CAM,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    HiResCAM,
    LayerCAM,
    XGradCAM,
)
from medsal.methods.combine import GuidedGradCAM, Mirrored, Smooth
from medsal.methods.gradient import (
    Deconvnet,
    Gradient,
    GuidedBackprop,
    InputXGradient,
    VoxelMethod,
)
from medsal.methods.noise import SmoothGrad
from medsal.methods.path import ExpectedGradients, IntegratedGradients
from medsal.methods.perturb import RISE, Occlusion
from medsal.methods.registry import (
    METHODS,
    Explainer,
    Method,
    configured,
    get_method,
    maps_of,
    options_of,
    register,
)
from medsal.methods.scorecam import ScoreCAM
from medsal.methods.scored import AblationCAM, ClassActivationMap

__all__ = [
    "CAM",
    "METHODS",
    "RISE",
    "AblationCAM",
    "ClassActivationMap",
    "Deconvnet",
    "EigenCAM",
    "ExpectedGradients",
    "Explainer",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "InputXGradient",
    "IntegratedGradients",
    "LayerCAM",
    "Method",
    "Mirrored",
    "Occlusion",
    "ScoreCAM",
    "Smooth",
    "SmoothGrad",
    "VoxelMethod",
    "XGradCAM",
    "configured",
    "get_method",
    "maps_of",
    "options_of",
    "register",
]
