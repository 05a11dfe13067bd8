"""What medsal says on another device and on the CPU, side by side: a line of JSON for each case.

In a process of its own, as a device that was made known stays known:
``python -m tests.device.on_another cuda``, or ``... far LIBRARY``.
"""

import copy
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel
import torch
from monai.data import MetaTensor
from monai.networks import nets
from torch import Tensor, nn

import medsal
from medsal import Probe, evaluate
from medsal.methods import METHODS
from tests.device import far

Case = Callable[[nn.Module, Tensor], Any]

NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet 3D": (
        lambda: nets.resnet10(n_input_channels=1, num_classes=3, widen_factor=0.25),
        (2, 1, 20, 20, 20),
    ),
    "densenet 2D": (lambda: nets.DenseNet(2, 1, 3, 8, 4, (2, 2)), (2, 1, 40, 40)),
    "unet 3D": (lambda: nets.UNet(3, 1, 3, (4, 8), (2,), num_res_units=1), (1, 1, 12, 12, 12)),
    "vit 2D": (
        lambda: nets.ViT(
            1, (32, 32), (8, 8), 24, 48, 2, 2, classification=True, num_classes=3, spatial_dims=2
        ),
        (1, 1, 32, 32),
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "rise": {"masks": 12},
    "occlusion": {"window": 8, "stride": 8},
    "smoothgrad": {"samples": 3},
    "integrated_gradients": {"steps": 6},
}
MORE: dict[str, Case] = {
    "fewer passes": lambda net, x: medsal.explain(net, x, 1, "scorecam", agreement=0.9),
    "a search": lambda net, x: medsal.explain(net, x, 1, "occlusion", window=4, coarse=2),
    "the mean as fill": lambda net, x: medsal.explain(net, x, 1, "occlusion", fill="mean"),
    "blur as fill": lambda net, x: medsal.explain(net, x, 1, "occlusion", fill="blur"),
    "layers, fused": lambda net, x: medsal.explain(net, x, 1, layer=["layer2", "layer3"]),
    "a class for each sample": lambda net, x: medsal.explain(net, x, medsal.ClassScore((0, 1))),
    "a difference": lambda net, x: medsal.explain(net, x, medsal.Difference(0, 1)),
}
METRICS: dict[str, Callable[[Probe, Tensor, Tensor, Tensor], Any]] = {
    "deletion": lambda probe, x, found, mask: evaluate.deletion(probe, x, found),
    "insertion": lambda probe, x, found, mask: evaluate.insertion(probe, x, found),
    "road": lambda probe, x, found, mask: evaluate.road(probe, x, found),
    "infidelity": lambda probe, x, found, mask: evaluate.infidelity(probe, x, found),
    "max sensitivity": lambda probe, x, found, mask: evaluate.max_sensitivity(
        probe, x, METHODS["gradcam"]()
    ),
    "pointing game": lambda probe, x, found, mask: evaluate.pointing_game(found, mask),
    "energy": lambda probe, x, found, mask: evaluate.energy_pointing_game(found, mask),
    "peak distance": lambda probe, x, found, mask: evaluate.peak_distance(found, mask, (1, 1, 2)),
    "centroid": lambda probe, x, found, mask: evaluate.centroid_distance(found, mask, (1, 1, 2)),
    "dice": lambda probe, x, found, mask: evaluate.best_dice(found, mask),
    "auprc": lambda probe, x, found, mask: evaluate.auprc(found, mask),
    "overlap": lambda probe, x, found, mask: evaluate.overlap(found, mask),
    "similarity": lambda probe, x, found, mask: evaluate.similarity(found, found.flip(2)),
    "gini": lambda probe, x, found, mask: evaluate.gini(found),
    "entropy": lambda probe, x, found, mask: evaluate.entropy(found),
    "agreement": lambda probe, x, found, mask: evaluate.agreement(
        probe, x, ["gradcam", "hirescam"]
    ),
    "random maps": lambda probe, x, found, mask: [*evaluate.surrogates(found, 2)],
    "imputation": lambda probe, x, found, mask: evaluate.impute(x, mask),
}


def main(name: str, library: str | None = None) -> None:
    if library:
        far.register(Path(library))
    warnings.simplefilter("ignore")
    device = torch.device(name)
    for what, on_cpu, there in cases(device):
        said = [answer(on_cpu), answer(there)]
        row = {"what": what, "difference": difference(*said, device), "cpu": brief(said[0])}
        sys.stdout.write(json.dumps(row) + "\n")


def cases(device: torch.device) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Each case on the CPU, and on the device."""
    for name, (build, shape) in NETS.items():
        torch.manual_seed(0)
        net, image = build().eval(), torch.randn(shape)
        both = (net, image), (moved(net, device), image.to(device))
        asked: dict[str, Case] = {
            method: lambda net, x, method=method: medsal.explain(
                net, x, 1, method, **OPTIONS.get(method, {}), **references(method, x)
            )
            for method in METHODS
        }
        asked |= {"predicted": medsal.explain}
        if name == "resnet 3D":
            given = medsal.explain(net, image, 1).data
            asked |= MORE | {what: measured(each, given) for what, each in METRICS.items()}
            asked |= {"written": written, "placed": placed}
            if device.type != "far":  # it has no copies of whole modules
                asked["checked"] = checked
        for what, case in asked.items():
            yield (f"{name}, {what}", *(lambda c=case, pair=pair: c(*pair) for pair in both))


def moved(net: nn.Module, device: torch.device) -> nn.Module:
    return copy.deepcopy(net).to(device)


def references(method: str, image: Tensor) -> dict[str, Any]:
    return {"references": image.flip(2), "samples": 3} if method == "expected_gradients" else {}


def measured(metric: Callable[..., Any], given: Tensor) -> Case:
    """A metric of one map on every device: ranks of what rounding sets apart would differ."""

    def ask(net: nn.Module, image: Tensor) -> Any:
        found = given.to(image.device)
        mask = torch.zeros_like(image, dtype=torch.bool)
        mask[..., 3:9, 3:9, 3:9] = True
        return metric(Probe(net, medsal.ClassScore(1)), image, found, mask)

    return ask


def written(net: nn.Module, image: Tensor) -> Tensor:
    scan = MetaTensor(image[:1], affine=torch.diag(torch.tensor([1.0, 2, 3, 1])))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.nii.gz"
        medsal.explain(net, scan, 1).save(path)
        return torch.from_numpy(nibabel.load(path).get_fdata())


def checked(net: nn.Module, image: Tensor) -> str:
    found = evaluate.check(net, image[:1], "gradcam", 1, steps=2, repeats=2, random_maps=3)
    return "; ".join(str(each) for each in found.findings)


def placed(net: nn.Module, image: Tensor) -> Any:
    return evaluate.placement(net, [image + 0.1 * i for i in range(12)], least=0)


def answer(ask: Callable[[], Any]) -> Any:
    try:
        torch.manual_seed(1)
        return ask()
    except (ValueError, TypeError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def difference(cpu: Any, there: Any, device: torch.device) -> str | None:
    """How two answers differ; None where they are the same, and the map is where it should be."""
    if isinstance(cpu, str) or isinstance(there, str):
        return None if cpu == there else f"{brief(cpu)} / {brief(there)}"
    if isinstance(cpu, medsal.SaliencyMap):
        told = [(each.layer, each.notes, each.model, each.cells) for each in (cpu, there)]
        if told[0] != told[1] or there.data.device.type != device.type:
            return f"{told[0]} / {told[1]} on {there.data.device}"
        cpu, there = cpu.data, there.data
    one, two = numbers(cpu), numbers(there)
    size = one.abs().max().clamp(min=1e-30) if one.numel() else 1.0
    same = one.shape == two.shape and torch.allclose(
        one / size, two / size, rtol=1e-3, atol=1e-4, equal_nan=True
    )
    return None if same else f"{one[:4].tolist()} / {two[:4].tolist()}"


def numbers(found: Any) -> Tensor:
    """All numbers in an answer."""
    if isinstance(found, Tensor):
        return found.detach().cpu().double().flatten()
    if isinstance(found, int | float):
        return torch.tensor([float(found)]).double()
    parts = found if isinstance(found, tuple | list) else vars(found).values()
    kept = [
        numbers(each) for each in parts if isinstance(each, Tensor | int | float | tuple | list)
    ]
    return torch.cat(kept) if kept else torch.zeros(0).double()


def brief(answer: Any) -> str:
    return answer[:200] if isinstance(answer, str) else type(answer).__name__


if __name__ == "__main__":
    main(*sys.argv[1:])
