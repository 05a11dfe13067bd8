"""How cost grows with the volume, and with classes, layers and samples."""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.cost.contenders import Case, forward, own
from tests.benchmarks.cost.measure import seconds

NET = "ResNet18 stem 2"
_LAYERS = ["layer1", "layer2", "layer3", "layer4"]
Curve = list[tuple[float, float]]
Run = Callable[[Case], Tensor]


def grown(asked: argparse.Namespace) -> dict[str, dict[str, Curve]]:
    """For each axis of a figure its curves: over voxels in seconds, else in forward passes."""
    torch.set_num_threads(asked.threads)
    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    kinds: dict[str, Run] = {
        "forward pass": forward,
        "Grad-CAM": own("gradcam"),
        "guided backpropagation": own("guided_backprop"),
    }
    voxels: dict[str, Curve] = {name: [] for name in kinds}
    for size in asked.sizes:
        case = Case(NET, (size,) * 3, device)
        for name, run in kinds.items():
            voxels[name].append((size**3, _median(run, case, asked.repeats)))
    case = Case(NET, (sorted(asked.sizes)[len(asked.sizes) // 2],) * 3, device)
    classes = [(n, own("gradcam", list(range(n)))) for n in (1, 2, 4, 8)]
    layers = [(n, own("gradcam", layer=_LAYERS[-n:])) for n in (1, 2, 3, 4)]
    samples = [(n, own("smoothgrad", samples=n)) for n in (1, 2, 4, 8)]
    return {
        "voxels": voxels,
        "classes": {"Grad-CAM": _ratios(classes, case, asked.repeats)},
        "layers": {"Grad-CAM, fused": _ratios(layers, case, asked.repeats)},
        "samples": {"SmoothGrad": _ratios(samples, case, asked.repeats)},
    }


def _median(run: Run, case: Case, repeats: int) -> float:
    run(case)
    return statistics.median(seconds(run, case) for _ in range(repeats))


def _ratios(runs: list[tuple[int, Run]], case: Case, repeats: int) -> Curve:
    found = []
    for n, run in runs:
        run(case)
        pairs = [(seconds(forward, case), seconds(run, case)) for _ in range(repeats)]
        found.append((float(n), statistics.median(b / a for a, b in pairs)))
    return found


def plot(measured: dict[str, dict[str, Curve]], path: Path) -> None:
    """The curves as one figure, the first panel with logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(measured), figsize=(13, 3.2), layout="constrained")
    for axis, (by, curves) in zip(axes, measured.items(), strict=True):
        for name, curve in curves.items():
            axis.plot(*zip(*curve, strict=True), marker="o", label=name)
        axis.set_xlabel(by)
        axis.legend(fontsize=7)
        if by == "voxels":
            axis.set(xscale="log", yscale="log", ylabel="time [s]")
        else:
            axis.set(ylim=(0, 1.1 * axis.get_ylim()[1]), ylabel="time [forward passes]")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def told(measured: dict[str, dict[str, Curve]]) -> list[str]:
    """The curves in words, a line each."""
    lines: list[str] = []
    for by, curves in measured.items():
        for name, curve in curves.items():
            unit: Any = " s" if by == "voxels" else "x"
            points = ", ".join(f"{x:.0f}: {y:.2f}{unit}" for x, y in curve)
            lines.append(f"- {name} by {by}: {points}")
    return lines
