"""Pictures of saliency maps: slices on the scan's own voxel planes, still and moving; reports."""

from medsal.view.animation import animate
from medsal.view.compare import compare
from medsal.view.montage import montage
from medsal.view.ortho import ortho
from medsal.view.report import Interactive, report
from medsal.view.scale import Scale, shared_scale
from medsal.view.slider import slider

__all__ = [
    "Interactive",
    "Scale",
    "animate",
    "compare",
    "montage",
    "ortho",
    "report",
    "shared_scale",
    "slider",
]
