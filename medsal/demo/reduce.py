"""Make the packaged head volumes from their sources: `python -m medsal.demo.reduce --help`.

Not needed to use or train anything: the results are in the package. It records, in runnable form,
what was done to the two volumes that medsal redistributes (see `anatomy/LICENSE.txt`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medsal.demo import ANATOMY

#: Voxel edge [mm] and width of a grey level after reduction: Colin27 also makes the demo scan.
COLIN, S1 = (1.25, 3), (2.0, 1)


def deface(head: NDArray[np.float32], brain: NDArray[np.float32], mm: float) -> None:
    """Blank in place what lies more than 22 mm from the brain, in front of and below it."""
    far = ndimage.distance_transform_edt(brain < 0.5, sampling=mm) > 22
    _, y, z = (np.asarray(axis) for axis in np.nonzero(brain > 0.5))
    front, low = y.mean(), z.mean() - 5 / mm
    grid = np.ogrid[tuple(slice(n) for n in head.shape)]
    head[far & (grid[1] > front) & (grid[2] < low)] = 0
    head[far & np.broadcast_to(grid[2] < z.min() + 5 / mm, head.shape)] = 0


def reduced(
    head: str, brain: str, mm: float, step: int, anonymous: bool
) -> tuple[nib.Nifti1Image, nib.Nifti1Image]:
    """Return (head, brain mask) as uint8 on an RAS grid of `mm`, cropped to the head."""
    images = [nib.as_closest_canonical(nib.load(path)) for path in (head, brain)]
    affine = images[0].affine
    shape = [int(n * a / mm) for n, a in zip(images[0].shape, np.diag(affine)[:3], strict=True)]
    to = affine.copy()
    to[:3, :3] = np.eye(3) * mm
    values = [np.asarray(image.dataobj, dtype=np.float32) for image in images]
    values[1] = (values[1] > 0).astype(np.float32)
    sigma = [0.42 * max(mm / a - 0.4, 0) for a in np.diag(affine)[:3]]
    moved = [
        ndimage.affine_transform(
            ndimage.gaussian_filter(v, sigma), np.diag(mm / np.diag(affine)[:3]), 0, shape, order=1
        )
        for v in values
    ]
    if anonymous:
        deface(moved[0], moved[1], mm)
    inside = ndimage.find_objects((moved[0] > 8).astype(np.uint8))[0]
    to[:3, 3] += mm * np.array([s.start for s in inside])
    grey = np.round(moved[0][inside] / step) * step
    grey[grey < 6] = 0
    return (
        nib.Nifti1Image(grey.clip(0, 254).astype(np.uint8), to),
        nib.Nifti1Image((moved[1][inside] > 0.5).astype(np.uint8), to),
    )


def save(image: nib.Nifti1Image, path: Path) -> None:
    """Write with sform = qform, codes 1, millimetres."""
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)


def main() -> None:
    """Read the sources named on the command line and write `medsal/demo/anatomy`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--colin", nargs=2, metavar=("CH2", "CH2BET"), help="of mricron-data")
    parser.add_argument("--s1", nargs=2, metavar=("RAW", "MASK"), help="of pycortex; by deepbet")
    parser.add_argument("--out", type=Path, default=ANATOMY)
    args = parser.parse_args()
    for name, paths, (mm, step) in (("colin27", args.colin, COLIN), ("s1", args.s1, S1)):
        if paths is None:
            continue
        head, brain = reduced(paths[0], paths[1], mm, step, anonymous=name == "s1")
        save(head, args.out / f"{name}.nii.gz")
        save(brain, args.out / f"{name}_brain.nii.gz")


if __name__ == "__main__":
    main()
