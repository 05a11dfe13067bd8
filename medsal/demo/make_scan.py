"""Make the demo scan again: `python -m medsal.demo.make_scan [--out DIR]`.

Colin27, which the network has never seen, with one ring-enhancing lesion, on a grid such as
scanners use: 11 degrees oblique, left-handed, thicker slices than pixels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medsal.demo import SCAN, augment
from medsal.demo.heads import load_head
from medsal.demo.lesions import Lesion, generator, noise, paint

SEED = 27
#: Edge of the fine grid that the lesion is painted on [mm].
FINE = 0.9
#: The scan's voxel [mm], its size, and its turns about the x, y and z axes [degrees].
VOXEL, SIZE, TURNS = (1.0, 1.0, 1.6), (158, 188, 108), (9.0, -4.0, 5.0)
#: What is in it: a ring in the left hemisphere, its centre in RAS mm.
CENTRE = (-33.0, 8.0, 32.0)
LESION = Lesion(
    kind="ring",
    centre=(0.0, 0.0, 0.0),
    diameter=22.0,
    stretch=(1.12, 0.95, 0.94),
    turn=(0.4, -0.3, 0.8),
    contrast=0.62,
    wall=3.6,
    core=0.22,
    oedema=0.2,
    reach=1.9,
    roughness=0.2,
    seed=SEED,
)


def grid(middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scan's affine (voxel to RAS mm) whose field of view has its centre at `middle`."""
    turn = np.eye(3)
    for axis, degrees in enumerate(TURNS):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        step = np.eye(3)
        step[a, a], step[a, b], step[b, a], step[b, b] = c, -s, s, c
        turn = turn @ step
    affine = np.eye(4)
    # The first axis runs from right to left, the others as in RAS: a left-handed grid.
    affine[:3, :3] = turn @ np.diag([-1.0, 1.0, 1.0]) @ np.diag(VOXEL)
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(SIZE) - 1) / 2)
    return affine


def scan() -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Return the scan, the mask of the lesion, and their affine."""
    head = load_head("colin27", FINE, None)
    inverse = np.linalg.inv(head.affine.numpy())
    at = inverse[:3, :3] @ np.array(CENTRE) + inverse[:3, 3]
    lesion = Lesion(**{**LESION.__dict__, "centre": tuple(at.tolist())})
    image, mask = paint(head.image, head.brain, lesion, FINE)
    g = generator(SEED)
    image = image * torch.exp(0.1 * noise(g, image.shape, 90 / FINE))
    middle = (head.affine[:3, :3] @ ((torch.tensor(image.shape) - 1.0) / 2).double()).numpy()
    affine = grid(middle + head.affine[:3, 3].numpy() + np.array([0.0, 0.0, -2.0]))
    across = ndimage.gaussian_filter(image.numpy(), 0.35)
    grey = torch.from_numpy(_resample(across, inverse @ affine))
    grey = augment.grain(g, grey, 0.008)
    inside = _resample(mask.numpy().astype(np.float32), inverse @ affine) > 0.5
    return (grey.numpy() * 110).round().astype(np.int16), inside.astype(np.uint8), affine


def _resample(values: NDArray[np.float32], to: NDArray[np.float64]) -> NDArray[np.float32]:
    moved = ndimage.affine_transform(values, to[:3, :3], to[:3, 3], SIZE, order=1)
    return np.asarray(moved, dtype=np.float32)


def save(values: NDArray[np.generic], affine: NDArray[np.float64], path: Path) -> None:
    """Write with sform = qform, codes 1, millimetres."""
    image = nib.Nifti1Image(values, affine)
    image.set_qform(affine, 1)
    # A quaternion in float32 turns by a hair: both forms say what it says.
    image.set_sform(image.get_qform(), 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def main(argv: list[str] | None = None) -> None:
    """Write the scan, the mask and `truth.json` into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SCAN.parent, metavar="DIR")
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    grey, mask, affine = scan()
    name = SCAN.name.removesuffix(".nii.gz")
    save(grey, affine, out / f"{name}.nii.gz")
    save(mask, affine, out / f"{name}_mask.nii.gz")
    centre = affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3]
    volume = float(mask.sum() * np.prod(VOXEL))
    truth = {
        "kind": LESION.kind,
        "centre_ras_mm": [round(float(c), 2) for c in centre],
        "diameter_mm": round(2 * (volume * 3 / (4 * np.pi)) ** (1 / 3), 2),
        "volume_mm3": round(volume, 1),
        "anatomy": "Colin27 (see LICENSE.txt)",
        "lesion": "simulated",
        "seed": SEED,
    }
    (out / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")


if __name__ == "__main__":
    main()
