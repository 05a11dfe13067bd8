"""Every method on every network of MONAI: the right map, or the right refusal.

`python -m tests.networks.matrix [NAME ...]` prints the table as Markdown, for all networks or for
those whose names begin so. `--out PAGE` writes it as a page, and adds to what stands there;
`--methods NAME,NAME` takes some methods.
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import medsal
from tests.networks.definitions import DEFINITIONS, Case
from tests.networks.zoo import ZOO, Entry, image_of

# Few steps: what is asked is whether a method works on a network, not how smooth its map is.
CHEAP: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 2},
    "smoothgrad": {"samples": 2},
    "expected_gradients": {"samples": 2},
    "rise": {"masks": 3, "cells": 3},
}
# A forward pass for each channel: on a layer with few of them.
PER_CHANNEL = ("scorecam", "ablationcam")
GUIDED = ("guided_backprop", "deconvnet", "guided_gradcam")
LAYERED = (
    "cam", "gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigencam", "scorecam",
    "ablationcam", "guided_gradcam",
)  # fmt: skip
RIGHT = "right"


def methods() -> list[str]:
    """The names of all methods, but for those that tests register."""
    return [name for name, kind in medsal.METHODS.items() if kind.__module__.startswith("medsal.")]


def options(name: str, entry: Entry, network: nn.Module, image: Tensor) -> dict[str, Any]:
    """The options that make a method cheap on this network."""
    found = dict(CHEAP.get(name, {}))
    if name == "expected_gradients":
        found["references"] = torch.zeros_like(image)
    if name == "occlusion":
        found["window"] = [-(-size // 2) for size in image.shape[2:]]
    if name in LAYERED and entry.layer:
        found["layer"] = entry.layer
    if name in PER_CHANNEL and entry.layers:
        found["layer"] = _narrow_layer(entry, network, image)
    return found


def _narrow_layer(entry: Entry, network: nn.Module, image: Tensor) -> str | None:
    """The convolution on a grid of cells with fewest channels; the last one of those."""
    listed = medsal.layers(network, image, input=entry.input, forward_kwargs=entry.kwargs)
    layers = [
        layer
        for layer in listed
        if layer.shape
        and len(layer.shape) == image.ndim
        and layer.shape[0] == len(image)
        and layer.shape[1] > 1
        and all(cells > 1 for cells in layer.shape[2:])
        and layer.kind.startswith(("Conv", "ADN"))
    ]
    return min(reversed(layers), key=lambda each: each.shape[1]).name if layers else None


def outcome(entry: Entry, network: nn.Module, method: str) -> str:
    """``right``, or ``refused: why``.

    Raises:
        AssertionError: when the map is wrong: not as defined, not finite, or of another shape; when
            what should work is refused, or for another reason; when a trace is left.
    """
    image, refused, result = image_of(entry), "", None
    before = image.clone()
    with leaves_no_trace(network):
        try:
            result = medsal.explain(
                network, image, entry.target, method, input=entry.input,
                forward_kwargs=entry.kwargs, **options(method, entry, network, image),
            )  # fmt: skip
        except (ValueError, TypeError, LookupError) as error:
            refused = str(error)
    expected = refusal(entry, method)
    if result is None:
        assert expected, f"refused though it is defined: {refused}"
        assert expected in refused, f"refused for another reason: {refused}"
        return f"refused: {refused}"
    assert torch.equal(before, image), "the image was written to"
    # A segmentation's head may happen to be one that CAM is defined for.
    assert expected is None or method == "cam", "given though it is not defined"
    assert result.data.shape == (1, 1, *image.shape[2:])
    assert bool(result.data.isfinite().all())
    expected_map = DEFINITIONS[method](Case(network.eval(), image, entry, result)).detach()
    network.train()
    scale = float(expected_map.abs().max())
    apart = float((result.data.double() - expected_map).abs().max())
    tolerance = 1e-5 if entry.dtype == torch.float64 else 1e-3
    # Differences of scores are rounded to the last digits of numbers near 1.
    assert apart <= tolerance * scale + 8 * torch.finfo(entry.dtype).eps, (
        f"differs from its definition by {apart:.2g} of {scale:.2g}"
    )
    return RIGHT


def refusal(entry: Entry, method: str) -> str | None:
    """What a method says that is not defined for this network; None where it is defined."""
    if method in LAYERED and not entry.layers:
        return "keeps the image's spatial axes"
    if method in GUIDED and not entry.guided:
        return "ReLU"
    if method == "cam" and not entry.linear:
        return "global average pooling"
    return None


@contextmanager
def leaves_no_trace(network: nn.Module) -> Iterator[None]:
    """Everything of a network is the same object with the same numbers afterwards."""
    before, random = _state(network), torch.get_rng_state()
    yield
    assert _state(network) == before, "a trace is left"
    assert torch.equal(random, torch.get_rng_state()), "the random state has moved"
    assert torch.is_grad_enabled()


def _state(network: nn.Module) -> list[Any]:
    """What must be as before: modes, flags, hooks, gradients, and every number of each tensor."""
    modules = [
        (
            id(m), m.training, sorted(vars(m)), getattr(m, "inplace", None),
            [len(v) for k, v in vars(m).items() if k.endswith("_hooks") and isinstance(v, dict)],
        )
        for m in network.modules()
    ]  # fmt: skip
    tensors = [*network.named_parameters(), *network.named_buffers()]
    flags = [
        (k, id(t), t._version, t.requires_grad, t.grad is None, t.dtype, t.shape)
        for k, t in tensors
    ]
    numbers = [_bits(t) for _, t in tensors]
    return [modules, flags, numbers]


def _bits(tensor: Tensor) -> int:
    """The sum of a tensor's bytes, read as whole numbers, and of each times its place."""
    flat = tensor.detach().contiguous().flatten().view(torch.uint8)
    words = flat.view(torch.int64) if flat.numel() % 8 == 0 else flat.long()
    return int(words.sum()) ^ int((words * torch.arange(1, len(words) + 1)).sum())


def build(entry: Entry) -> nn.Module:
    """The network with seeded weights in float64, in train mode with one frozen layer."""
    torch.manual_seed(0)
    network = entry.build().to(entry.dtype).train()
    parameters = list(network.parameters())
    parameters[0].requires_grad_(False)
    # Statistics of a trained network are not 0 and 1.
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
        if entry.calm:
            _calm(network, image_of(entry, 4))
    return network


def _calm(network: nn.Module, images: Tensor) -> None:
    """Give the network the statistics that these images have in it."""
    norms = [each for each in network.modules() if isinstance(each, _BatchNorm)]
    usual = [each.momentum for each in norms]
    for each in norms:
        each.momentum = 1.0
    network(images)
    for each, momentum in zip(norms, usual, strict=True):
        each.momentum = momentum


def row_of(name: str, columns: list[str]) -> tuple[list[str], int]:
    """What each method does on a network, and how many seconds it took."""
    entry, start = ZOO[name], time.perf_counter()
    network, row = build(entry), []
    for method in columns:
        try:
            row.append(outcome(entry, network, method))
        except Exception as error:
            # Another method may still be right: the table shows them all.
            row.append(f"WRONG: {type(error).__name__}: {error}")
    return row, round(time.perf_counter() - start)


PAGE = """# Every method on every network of MONAI

Printed by `python -m tests.networks.matrix --out tutorials/networks.md`. Weights are random, inputs
small, numbers float64.

- **right**: the map equals the method's definition, written out with ordinary hooks and loops
  (`tests/networks/definitions.py`), to 1e-5 of its largest value; the network, in train mode with a
  frozen layer, is bit by bit as before: numbers, modes, flags, hooks, buffers.
- **refused [i]**: the method is not defined there, and says so in the words below the table.

"""


def table(rows: dict[str, list[str]], columns: list[str]) -> str:
    """The rows as Markdown, with the refusals' words below."""
    reasons: dict[str, int] = {}
    lines = ["| network | " + " | ".join(f"`{name}`" for name in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        cells = []
        for each in row:
            kind, _, why = each.partition(": ")
            number = reasons.setdefault(why, len(reasons) + 1) if why else None
            cells.append(f"{kind} [{number}]" if number else kind)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    said = [f"{number}. {why}" for why, number in reasons.items()]
    return "\n".join([*lines, "", *said, ""])


def left_out(rows: dict[str, list[str]]) -> str:
    """The networks that no run has come to yet, or that need a package that was not there."""
    names = [name for name in ZOO if name not in rows]
    return f"\nNot run for this page: {', '.join(names)}.\n" if names else ""


def read_page(page: Path, columns: list[str]) -> dict[str, list[str]]:
    """The rows of a page that was written before, with the same columns."""
    if not page.exists():
        return {}
    lines = page.read_text("utf-8").splitlines()
    said = dict(
        each.split(". ", 1) for each in lines if each.partition(". ")[0].isdigit() and ". " in each
    )
    found = {}
    for line in lines:
        name, *cells = [each.strip() for each in line.strip("|").split("|")]
        if line.startswith("|") and name in ZOO and len(cells) == len(columns):
            found[name] = [_outcome(each, said) for each in cells]
    return found


def _outcome(cell: str, said: dict[str, str]) -> str:
    kind, _, number = cell.partition(" [")
    return f"{kind}: {said[number[:-1]]}" if number else kind


def main() -> None:
    """Print the table, and write the page."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("names", nargs="*")
    asked.add_argument("--out", type=Path)
    asked.add_argument("--methods", default="")
    given = asked.parse_args()
    warnings.simplefilter("ignore")
    columns = [each for each in given.methods.split(",") if each] or methods()
    rows = read_page(given.out, columns) if given.out else {}
    for name, entry in ZOO.items():
        if not name.startswith(tuple(given.names) or "") or entry.lacks:
            continue
        rows[name], seconds = row_of(name, columns)
        wrong = [
            f"{m} {each}" for m, each in zip(columns, rows[name], strict=True) if "WRONG" in each
        ]
        print(name, f"{seconds} s", *(wrong or ["as it should be"]), sep=" | ", flush=True)
        if given.out:
            # What another run wrote meanwhile stays.
            rows = {**read_page(given.out, columns), name: rows[name]}
            ordered = {each: rows[each] for each in ZOO if each in rows}
            given.out.write_text(PAGE + table(ordered, columns) + left_out(ordered), "utf-8")
    print()
    print(table({each: rows[each] for each in ZOO if each in rows}, columns))


if __name__ == "__main__":
    main()
