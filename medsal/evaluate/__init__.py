"""Is a map true, and in the right place? Metrics and sanity checks.

Faithfulness: functions of ``(probe, image, map)``. Localisation: of ``(map, mask)`` and the grid's
voxel sizes or affine. Sanity: of ``(probe, image, method)``. All take 1 to 3 spatial axes, give a
number per sample, and leave no trace on the model.
"""

from medsal.evaluate.faithfulness import Curve, deletion, insertion
from medsal.evaluate.imputation import impute
from medsal.evaluate.localisation import (
    centroid_distance,
    centroid_offset,
    energy_pointing_game,
    peak_distance,
    pointing_game,
)
from medsal.evaluate.overlap import Overlap, auprc, best_dice, dice, iou, overlap
from medsal.evaluate.randomise import randomise, weighted_layers
from medsal.evaluate.sanity import (
    Randomisation,
    Similarity,
    label_randomisation,
    pairwise,
    randomisation,
    randomised_maps,
    similarity,
    target_sensitivity,
)
from medsal.evaluate.similarity import rank_correlation, ssim

__all__ = [
    "Curve",
    "Overlap",
    "Randomisation",
    "Similarity",
    "auprc",
    "best_dice",
    "centroid_distance",
    "centroid_offset",
    "deletion",
    "dice",
    "energy_pointing_game",
    "impute",
    "insertion",
    "iou",
    "label_randomisation",
    "overlap",
    "pairwise",
    "peak_distance",
    "pointing_game",
    "randomisation",
    "randomise",
    "randomised_maps",
    "rank_correlation",
    "similarity",
    "ssim",
    "target_sensitivity",
    "weighted_layers",
]
