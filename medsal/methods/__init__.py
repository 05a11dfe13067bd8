"""The methods, each registered in `METHODS` by its paper's name."""

from medsal.methods.cam import CAM, GradCAM
from medsal.methods.combine import GuidedGradCAM
from medsal.methods.gradient import Gradient, GuidedBackprop, VoxelMethod
from medsal.methods.registry import METHODS, Explainer, Method, get_method, options_of, register

__all__ = [
    "CAM",
    "METHODS",
    "Explainer",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCAM",
    "Method",
    "VoxelMethod",
    "get_method",
    "options_of",
    "register",
]
