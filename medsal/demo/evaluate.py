"""Measure the bundle: accuracy, and where each method's peak lies.

`python -m medsal.demo.evaluate` uses Colin27, which training never sees.
`python -m medsal.demo.evaluate --scan SCAN --mask MASK` uses a scan with a mask of its lesion.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

import medsal
from medsal.demo import BUNDLE, CLASSES
from medsal.demo.heads import MM
from medsal.demo.samples import LesionDataset

METHODS = ("gradcam", "guided_backprop", "guided_gradcam")
#: Of the held-out samples: not the seed of training.
SEED = 2027


@dataclass(frozen=True)
class Peak:
    """How far a map's peak is from the lesion: to its edge (0 inside) and to its centre [mm]."""

    edge: float
    centre: float


def configuration(bundle: Path) -> ConfigParser:
    """Read the bundle's inference configuration.

    Raises:
        FileNotFoundError: The bundle has no `configs/inference.json`.
    """
    path = bundle / "configs" / "inference.json"
    if not path.is_file():
        raise FileNotFoundError(f"{bundle} is no bundle: it has no configs/inference.json")
    parser = ConfigParser()
    parser.read_config(str(path))
    parser["bundle_root"] = str(bundle)
    parser["device"] = "cpu"
    return parser


def load_network(bundle: Path = BUNDLE, weights: Path | None = None) -> nn.Module:
    """Return the bundle's network with its weights, in eval mode.

    Raises:
        FileNotFoundError: No bundle or no weights there.
    """
    network: nn.Module = configuration(bundle).get_parsed_content("network_def")
    weights = weights or bundle / "models" / "model.pt"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion (Wilson 1927)."""
    z, share = 1.959964, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    spread = math.sqrt(share * (1 - share) / total + (z / total) ** 2 / 4)
    half = z / (1 + z * z / total) * spread
    return max(middle - half, 0.0), min(middle + half, 1.0)


def peak(network: nn.Module, image: Tensor, method: str) -> tuple[int, int, int]:
    """Return the voxel where the map of the predicted class is largest in absolute value."""
    values = medsal.explain(network, image, method=method).data[0, 0].abs()
    place = np.unravel_index(int(values.argmax()), tuple(values.shape))
    return int(place[0]), int(place[1]), int(place[2])


def held_out(
    network: nn.Module,
    bundle: Path,
    mode: str,
    count: int,
    methods: Sequence[str],
    most: int = 100,
) -> tuple[NDArray[np.int64], dict[str, list[Peak]]]:
    """Classify `count` held-out samples and locate the peaks of the right ones with a lesion.

    Args:
        network: the network, in eval mode.
        bundle: folder of the bundle, for its normalisation.
        mode: "plain" or "augmented".
        count: number of samples.
        methods: names in `medsal.METHODS`.
        most: peaks are located in the first so many lesions.

    Returns:
        The confusion matrix (true class, predicted class), and the peaks of each method.
    """
    normalise = configuration(bundle).get_parsed_content("normalise")
    data = LesionDataset(count, ("colin27",), SEED, mode)
    confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    peaks: dict[str, list[Peak]] = {method: [] for method in methods}
    for index in progress(range(count), f"held out, {mode}"):
        sample = normalise(data[index])
        image, label = sample["image"].as_tensor()[None], sample["label"]
        with torch.no_grad():
            predicted = int(network(image).argmax())
        confusion[label, predicted] += 1
        located = max(map(len, peaks.values()), default=most)
        if predicted != label or CLASSES[label] == "none" or located >= most:
            continue
        mask = sample["mask"][0].numpy()
        away = ndimage.distance_transform_edt(~mask, sampling=MM)
        middle = np.argwhere(mask).mean(0)
        for method in methods:
            at = peak(network, image, method)
            distance = float(np.linalg.norm(np.array(at) - middle)) * MM
            peaks[method].append(Peak(float(away[at]), distance))
    return confusion, peaks


def report_accuracy(confusion: NDArray[np.int64], title: str) -> str:
    """Return lines on accuracy, overall and per class, with 95 % intervals."""
    rows = [("all", int(np.trace(confusion)), int(confusion.sum()))]
    rows += [(n, int(confusion[i, i]), int(confusion[i].sum())) for i, n in enumerate(CLASSES)]
    lines = [f"accuracy, {title}"]
    for name, right, total in rows:
        if total:
            low, high = wilson(right, total)
            share = f"{right / total:.3f}  95 % {low:.3f} to {high:.3f}"
            lines.append(f"  {name:8}{share}  ({right} of {total})")
    return "\n".join(lines)


def report_peaks(peaks: dict[str, list[Peak]], title: str) -> str:
    """Return a table: where the peaks lie, per method."""
    count = len(next(iter(peaks.values()), []))
    lines = [
        f"peak of the map, {title}: {count} lesions classified rightly, mm, median (quartiles)",
        f"  {'method':17}{'to the edge':20}{'to the centre':20}{'inside':>8}{'<= 5 mm':>9}",
    ]
    for method, found in peaks.items():
        if not found:
            continue
        edge = np.array([p.edge for p in found])
        texts = [_quartiles(edge), _quartiles(np.array([p.centre for p in found]))]
        inside, near = (edge == 0).mean(), (edge <= 5).mean()
        lines.append(f"  {method:17}{texts[0]:20}{texts[1]:20}{inside:8.2f}{near:9.2f}")
    return "\n".join(lines)


def _quartiles(values: NDArray[np.float64]) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def one_scan(
    network: nn.Module, bundle: Path, scan: Path, mask: Path | None, methods: Sequence[str]
) -> str:
    """Classify one scan through the bundle's preprocessing; report class, and peaks in RAS mm.

    Raises:
        FileNotFoundError: `scan` or `mask` does not exist.
        ValueError: The mask is empty.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [_as_nifti(path, Path(folder)) for path in (scan, mask) if path is not None]
        image = configuration(bundle).get_parsed_content("preprocessing")({"image": files[0]})
        lesion = _points(files[1]) if mask is not None else None
    volume = image["image"].as_tensor()[None]
    with torch.no_grad():
        shares = network(volume).softmax(1)[0].tolist()
    listed = ", ".join(f"{n} {p:.3f}" for n, p in zip(CLASSES, shares, strict=True))
    lines = [f"{scan.name}: {CLASSES[int(np.argmax(shares))]} ({listed})"]
    affine = image["image"].affine.numpy()
    for method in methods:
        at = affine[:3, :3] @ np.array(peak(network, volume, method)) + affine[:3, 3]
        place = ", ".join(f"{v:.1f}" for v in at)
        line = f"  {method:17}peak at RAS ({place}) mm"
        if lesion is not None:
            line += f"; {lesion(at)}"
        lines.append(line)
    return "\n".join(lines)


def _points(mask: Path) -> Callable[[NDArray[np.float64]], str]:
    """Return a function that says how far a point [RAS mm] is from the mask."""
    image = nib.load(mask)
    inside = np.asarray(image.dataobj) > 0
    if not inside.any():
        raise ValueError(f"the mask {mask.name} is empty")
    points = np.argwhere(inside) @ image.affine[:3, :3].T + image.affine[:3, 3]
    inverse = np.linalg.inv(image.affine)

    def describe(at: NDArray[np.float64]) -> str:
        voxel = np.round(inverse[:3, :3] @ at + inverse[:3, 3]).astype(int)
        within = bool(np.all((voxel >= 0) & (voxel < inside.shape)) and inside[tuple(voxel)])
        edge = 0.0 if within else float(np.linalg.norm(points - at, axis=1).min())
        centre = float(np.linalg.norm(points.mean(0) - at))
        where = "inside the mask" if within else f"{edge:.1f} mm from the mask"
        return f"{where}, {centre:.1f} mm from its centre"

    return describe


def _as_nifti(path: Path, folder: Path) -> Path:
    """Return `path`, or a NIfTI copy of it in `folder` if it has another format."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.name.endswith((".nii", ".nii.gz")):
        return path
    import SimpleITK

    copy = folder / f"{path.stem}.nii.gz"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(copy))
    return copy


def progress(items: Iterable[int], what: str) -> Iterable[int]:
    """Pass `items` on and count them on stderr."""
    for number, item in enumerate(items, 1):
        yield item
        if number % 25 == 0:
            sys.stderr.write(f"{what}: {number}\n")


def run(
    network: nn.Module, bundle: Path, count: int, methods: Sequence[str], most: int = 100
) -> str:
    """Return the whole report on held-out samples."""
    texts = []
    for mode in ("plain", "augmented"):
        confusion, peaks = held_out(network, bundle, mode, count, methods, most)
        title = f"Colin27 {mode}"
        texts += [report_accuracy(confusion, title), report_peaks(peaks, title)]
    return "\n".join(texts)


def main(argv: list[str] | None = None) -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=BUNDLE, metavar="DIR")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="other than the bundle's own")
    parser.add_argument("--count", type=int, default=240, help="held-out samples of each mode")
    parser.add_argument("--peaks", type=int, default=100, help="lesions of each mode to locate")
    parser.add_argument("--methods", nargs="*", default=METHODS, metavar="NAME")
    parser.add_argument("--scan", type=Path, help="classify this scan instead")
    parser.add_argument("--mask", type=Path, help="where the lesion of --scan is")
    args = parser.parse_args(argv)
    network = load_network(args.bundle, args.weights)
    if args.scan is not None:
        text = one_scan(network, args.bundle, args.scan, args.mask, args.methods)
    else:
        text = run(network, args.bundle, args.count, args.methods, args.peaks)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
