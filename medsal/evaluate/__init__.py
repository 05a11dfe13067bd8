"""Is a map true, and in the right place? Metrics and sanity checks.

Faithfulness: functions of ``(probe, image, map)``. Localisation: of ``(map, mask)`` and the grid's
voxel sizes or affine. Sanity: of ``(probe, image, method)``. All take 1 to 3 spatial axes, give a
number per sample, and leave no trace on the model.
"""

from medsal.evaluate.agreement import agreement, repeatability
from medsal.evaluate.chance import surrogates
from medsal.evaluate.check import Check, check, stages
from medsal.evaluate.faithfulness import Curve, deletion, insertion
from medsal.evaluate.finding import Finding
from medsal.evaluate.imputation import impute
from medsal.evaluate.localisation import (
    centroid_distance,
    centroid_offset,
    energy_pointing_game,
    peak_distance,
    pointing_game,
)
from medsal.evaluate.overlap import Overlap, auprc, best_dice, dice, iou, overlap
from medsal.evaluate.placement import Placement, placement
from medsal.evaluate.randomise import randomise, weighted_layers
from medsal.evaluate.response import Noise, Perturbation, Removal, infidelity, max_sensitivity
from medsal.evaluate.road import Road, road
from medsal.evaluate.sanity import (
    Randomisation,
    label_randomisation,
    randomisation,
    randomised_maps,
    target_sensitivity,
)
from medsal.evaluate.similarity import Similarity, pairwise, rank_correlation, similarity, ssim
from medsal.evaluate.sparseness import entropy, gini

__all__ = [
    "Check",
    "Curve",
    "Finding",
    "Noise",
    "Overlap",
    "Perturbation",
    "Placement",
    "Randomisation",
    "Removal",
    "Road",
    "Similarity",
    "agreement",
    "auprc",
    "best_dice",
    "centroid_distance",
    "centroid_offset",
    "check",
    "deletion",
    "dice",
    "energy_pointing_game",
    "entropy",
    "gini",
    "impute",
    "infidelity",
    "insertion",
    "iou",
    "label_randomisation",
    "max_sensitivity",
    "overlap",
    "pairwise",
    "peak_distance",
    "placement",
    "pointing_game",
    "randomisation",
    "randomise",
    "randomised_maps",
    "rank_correlation",
    "repeatability",
    "road",
    "similarity",
    "ssim",
    "stages",
    "surrogates",
    "target_sensitivity",
    "weighted_layers",
]
