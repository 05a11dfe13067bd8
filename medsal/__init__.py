"""medsal: where in a scan a network looked."""

from typing import TYPE_CHECKING, Any

from medsal.explain import Origin, SaliencyMap, explain, layers
from medsal.methods import (
    CAM,
    METHODS,
    RISE,
    AblationCAM,
    ClassActivationMap,
    Deconvnet,
    EigenCAM,
    ExpectedGradients,
    GradCAM,
    GradCAMPlusPlus,
    Gradient,
    GuidedBackprop,
    GuidedGradCAM,
    HiResCAM,
    InputXGradient,
    IntegratedGradients,
    LayerCAM,
    Method,
    Mirrored,
    Occlusion,
    ScoreCAM,
    Smooth,
    SmoothGrad,
    XGradCAM,
    get_method,
    register,
)
from medsal.probe import Layer, Probe
from medsal.regions import Region
from medsal.targets import ClassScore, Difference, Positive, Predicted

if TYPE_CHECKING:
    from medsal.classic import saliency, saliency_plot

__version__ = "0.1.0"

__all__ = [
    "CAM",
    "METHODS",
    "RISE",
    "AblationCAM",
    "ClassActivationMap",
    "ClassScore",
    "Deconvnet",
    "Difference",
    "EigenCAM",
    "ExpectedGradients",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "InputXGradient",
    "IntegratedGradients",
    "Layer",
    "LayerCAM",
    "Method",
    "Mirrored",
    "Occlusion",
    "Origin",
    "Positive",
    "Predicted",
    "Probe",
    "Region",
    "SaliencyMap",
    "ScoreCAM",
    "Smooth",
    "SmoothGrad",
    "XGradCAM",
    "explain",
    "get_method",
    "layers",
    "register",
    "saliency",
    "saliency_plot",
]


def __getattr__(name: str) -> Any:
    # The classic call draws as well: it loads what figures need, which maps do without.
    if name in ("saliency", "saliency_plot"):
        from medsal import classic

        return getattr(classic, name)
    raise AttributeError(f"module 'medsal' has no attribute {name!r}")
