"""3D Slicer: scenes that open aligned, coloured and at the peak; hot regions as segmentations."""

from medsal.export.slicer.maps import check_placed, is_picture, shown_maps
from medsal.export.slicer.scene import SCENES, Shown, hot_segments, write_scene
from medsal.export.slicer.segmentation import SUFFIX, Segment, write_segmentation

__all__ = [
    "SCENES",
    "SUFFIX",
    "Segment",
    "Shown",
    "check_placed",
    "hot_segments",
    "is_picture",
    "shown_maps",
    "write_scene",
    "write_segmentation",
]
