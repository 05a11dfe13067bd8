"""The way home: from the network's grid to the voxel grid of the file that came in."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from medsal.scan import Scan, read
from medsal.space.agreement import Agreement, agree
from medsal.space.grid import Grid, coverage, resample

if TYPE_CHECKING:
    from medsal.origin import Origin
    from medsal.result import SaliencyMap

LOST = (
    "the image did not bring its place along (it is a plain tensor, or its meta data was dropped):"
    " load it with MONAI's LoadImaged and keep the MetaTensor; ToTensord,"
    " EnsureTyped(track_meta=False), ToNumpyd and the cache of PersistentDataset drop it"
)
CHECKED = "grid check: "


def home(result: "SaliencyMap", *, check: bool = True, scan: Scan | None = None) -> "SaliencyMap":
    """One sample's map on the voxel grid of the file that came in; see `come_home`."""
    return come_home(result, check=check, scan=scan)[0]


def come_home(
    result: "SaliencyMap", *, check: bool = True, scan: Scan | None = None
) -> tuple["SaliencyMap", Agreement | None]:
    """One sample's map on the voxel grid of the file that came in, and how well the image agrees.

    One linear resample from the network's grid to the file's. The file is read again where it still
    exists: its own header is the truth. Else the grid that the image remembers counts.

    Args:
        result: one sample.
        check: whether the image lies where its affine says.
        scan: the file as it was read already; it is not read again.

    Returns:
        The map `(1, t, *scan)`, finite, 0 outside; with the scan as its image `(1, c, *scan)`, the
        scan's affine, and `seen` `(1, 1, *scan)`, True where the network saw the voxel. And the
        agreement of the network's image with the file; None where it was not checked, or the
        map was at home already and comes back as it is.

    Raises:
        ValueError: for several samples, for an image whose place is unknown, for one spatial axis,
            and where the image does not lie where its affine says (`check=False` lets that pass).
    """
    if len(result.data) != 1:
        raise ValueError(
            f"expected one sample, got {len(result.data)}: each has a file of its own; take"
            " result[i].home()"
        )
    grid, origin = _network_grid(result), result.origins[0]
    there, target, notes = _there(origin, scan)
    agreement = None
    if result.seen is not None and there is not None and _same(result, there, grid, target):
        return result, None
    if there is not None and check:
        agreement = agree(_numpy(result.image[0]), grid, there, target)
        if agreement.refused:
            raise ValueError(refusal(agreement))
        notes = (*notes, *_remarks(agreement))
    data, seen = _bring(result, grid, target)
    if there is None:
        there = resample(_numpy(result.image[0]), grid.affine, target)
    kept = [note for note in result.notes if not note.startswith(CHECKED)]
    return dataclasses.replace(
        result,
        data=torch.from_numpy(data)[None],
        image=torch.from_numpy(there)[None],
        affine=_tensor(target.affine),
        seen=torch.from_numpy(seen)[None, None],
        origins=(dataclasses.replace(origin, affine=_tensor(target.affine), shape=target.shape),),
        notes=tuple(dict.fromkeys((*kept, *notes, *_unseen(seen)))),
    ), agreement


def _tensor(affine: Float[np.ndarray, "4 4"]) -> torch.Tensor:
    return torch.from_numpy(affine.copy())


def refusal(agreement: Agreement) -> str:
    """The error for an image that does not lie where its affine says."""
    if agreement.other > 0.7:
        why = (
            f"the image agrees with the file at r = {agreement.r:.3f}, and better"
            f" ({agreement.other:.3f}) when {agreement.place}"
        )
    else:
        why = (
            f"the image agrees with the file at r = {agreement.r:.3f} only, and no flip, swap of"
            " axes or shift explains it"
        )
    return (
        f"the affine does not tell what the transforms did: {why}. Replace the transform that"
        " moves voxels without the affine knowing (Transposed, Lambdad) by one that tells it"
        " (Flipd, Rotate90d, Orientationd, CropForegroundd), or invert the transforms (MONAI's"
        " Invertd); if the place is right all the same, medsal.space.home(result, check=False)"
    )


def _same(
    result: "SaliencyMap", scan: Float32[np.ndarray, "c *s"], grid: Grid, target: Grid
) -> bool:
    """Whether the map is at home already: its own check stands in its notes."""
    return grid.near(target) and np.array_equal(_numpy(result.image[0]), scan)


def _network_grid(result: "SaliencyMap") -> Grid:
    shape = tuple(result.data.shape[2:])
    if len(shape) == 1:
        raise ValueError(
            f"expected a map of 2 or 3 spatial axes, got 1 ({shape[0]} long): a signal has no"
            " place in a scan; use result.data as it is"
        )
    if result.affine is None:
        raise ValueError(LOST)
    affine = result.affine.detach().cpu().double().reshape(4, 4).numpy()
    return Grid(shape, affine.astype(np.float64))


def _there(
    origin: "Origin", scan: Scan | None
) -> tuple[Float32[np.ndarray, "c *s"] | None, Grid, tuple[str, ...]]:
    """The scan's voxels where its file exists, the grid to go to, and remarks."""
    if scan is None and origin.path is not None and Path(origin.path).exists():
        scan = read(origin.path, finite=False)
    if scan is not None:
        return scan.data, Grid(scan.shape, scan.affine), scan.notes
    if origin.shape is not None and len(origin.shape) in (2, 3):
        affine = np.eye(4) if origin.affine is None else origin.affine.cpu().double().numpy()
        if origin.affine is not None or len(origin.shape) == 2:
            gone = Path(origin.path).name if origin.path else "the file"
            note = f"{CHECKED}none, {gone} is gone; the grid is the one that the image remembers"
            return None, Grid(tuple(origin.shape), affine), (note,)
    raise ValueError(
        f"the map's way home is unknown: the image does not say which file it came from, or"
        f" that file ({origin.path}) is gone; {LOST}"
    )


def _bring(
    result: "SaliencyMap", grid: Grid, target: Grid
) -> tuple[Float32[np.ndarray, "t *s"], Bool[np.ndarray, "*s"]]:
    data = np.nan_to_num(_numpy(result.data[0]), nan=0.0, posinf=0.0, neginf=0.0)
    seen = coverage(grid, target)
    if result.seen is not None:
        mask = _numpy(result.seen[0])
        seen &= resample(mask, grid.affine, target)[0] >= 0.5
    moved = data.copy() if grid.near(target) else resample(data, grid.affine, target)
    moved = moved.reshape(len(data), *target.shape)
    moved[:, ~seen] = 0
    return moved, seen


def _numpy(tensor: torch.Tensor) -> Float32[np.ndarray, "k *s"]:
    array: Any = tensor.detach().as_subclass(torch.Tensor).cpu().float().numpy()
    return np.asarray(array, dtype=np.float32)


def _remarks(agreement: Agreement) -> tuple[str, ...]:
    if agreement.r is None:
        return (f"{CHECKED}none, the image or the scan is constant",)
    said = f"{CHECKED}the network's image agrees with the file, r = {agreement.r:.3f}"
    if agreement.ambiguous:
        said += f"; it would agree as well when {agreement.place}, so that this could not be told"
    return (said,)


def _unseen(seen: Bool[np.ndarray, "*s"]) -> tuple[str, ...]:
    part = 1 - float(np.mean(seen))
    if part == 0:
        return ()
    said = f"{part:.0%}" if part >= 0.01 else "less than 1%"
    return (f"the network did not see {said} of the scan's voxels; the map is 0 there, unknown",)
