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
from medsal.methods.combine import GuidedGradCAM
from medsal.methods.gradient import Gradient, GuidedBackprop, VoxelMethod
from medsal.methods.registry import METHODS, Explainer, Method, get_method, options_of, register
from medsal.methods.scored import AblationCAM, ClassActivationMap, ScoreCAM

__all__ = [
    "CAM",
    "METHODS",
    "AblationCAM",
    "ClassActivationMap",
    "EigenCAM",
    "Explainer",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "LayerCAM",
    "Method",
    "ScoreCAM",
    "VoxelMethod",
    "XGradCAM",
    "get_method",
    "options_of",
    "register",
]
