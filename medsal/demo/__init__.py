"""A trained 3D MONAI bundle, a scan with one known lesion, and how both were made.

Only paths live here. `medsal.demo.train` trains, `medsal.demo.evaluate` measures,
`medsal.demo.make_scan` makes the scan again; each runs by `python -m`.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

#: The bundle's root folder: `configs/`, `models/model.pt`, `docs/`.
BUNDLE = _HERE / "bundle"
#: Head volumes that lesions are put into, with their brain masks.
ANATOMY = _HERE / "anatomy"
#: Colin27 with one simulated lesion, on an oblique, left-handed, anisotropic grid.
SCAN = _HERE / "scan" / "colin27_lesion.nii.gz"
#: The lesion's mask on the scan's grid.
LESION_MASK = _HERE / "scan" / "colin27_lesion_mask.nii.gz"
#: The lesion as JSON: kind, centre [RAS mm], diameter [mm].
TRUTH = _HERE / "scan" / "truth.json"
#: A cat (left) and a dog (right), two photographs in one picture: 224 x 448 pixels, JPEG.
PHOTO = _HERE / "photo" / "cat_and_dog.jpg"
#: Names of the bundle's classes, in the order of its output channels.
CLASSES = ("none", "bright", "ring")

__all__ = ["ANATOMY", "BUNDLE", "CLASSES", "LESION_MASK", "PHOTO", "SCAN", "TRUTH"]
