"""Where the demo scan's lesion really is."""

from collections.abc import Sequence

import numpy as np

from medsal.demo import LESION_MASK


def lesion_distance(point: Sequence[float]) -> tuple[float, float]:
    """How far a point is from the lesion.

    Args:
        point: RAS mm.

    Returns:
        The distance to the nearest of the lesion's voxels, 0 inside it, and to its centre [mm].
    """
    import nibabel

    mask = nibabel.load(LESION_MASK)
    inverse = np.linalg.inv(mask.affine)
    lesion = np.argwhere(np.asarray(mask.dataobj) > 0)
    voxel = np.round(inverse[:3, :3] @ np.asarray(point) + inverse[:3, 3]).astype(int)
    places = lesion @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    inside = bool((lesion == voxel).all(1).any())
    away = 0.0 if inside else float(np.linalg.norm(places - point, axis=1).min())
    return away, float(np.linalg.norm(places.mean(0) - point))
