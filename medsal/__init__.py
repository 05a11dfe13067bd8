"""medsal: where in a scan a network looked."""

from medsal.explain import Origin, SaliencyMap, explain, layers
from medsal.methods import (
    CAM,
    METHODS,
    GradCAM,
    Gradient,
    GuidedBackprop,
    GuidedGradCAM,
    Method,
    get_method,
    register,
)
from medsal.probe import Layer, Probe
from medsal.targets import ClassScore, Difference, Region

__version__ = "0.1.0"

__all__ = [
    "CAM",
    "METHODS",
    "ClassScore",
    "Difference",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCAM",
    "Layer",
    "Method",
    "Origin",
    "Probe",
    "Region",
    "SaliencyMap",
    "explain",
    "get_method",
    "layers",
    "register",
]
