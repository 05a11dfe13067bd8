"""Pictures of saliency maps: orthogonal slices on the scan's own voxel planes."""

from medsal.view.ortho import ortho

__all__ = ["ortho"]
