"""The page: the table with the machine, the versions and the date."""

import argparse
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import torch

import medsal
from tests.benchmarks.cost.agreement import Agreement
from tests.benchmarks.cost.contenders import MODULES
from tests.benchmarks.cost.growth import Curve, told
from tests.benchmarks.cost.table import Row

_TEXT = """# What a map costs

Written by `python -m tests.benchmarks --page`; other libraries come with `pip install
'medsal[bench]'`. {machine}

Each line is a ratio to what is named after "against": time as the median of the ratios of
neighbouring runs in one process, memory as the peak of a process of its own above what it held
before the call, operations (FLOPs) as torch counts them. "kept" is what the process holds more
after the call [MiB], allocator and loaded code included. "same" is the maps' correlation; it is
empty where a map is the same everywhere, or there is none. Networks are not trained. An import is
that of an installed package, with its bytecode, after torch's. Operations of a backward pass
through grouped convolutions (EfficientNet) are counted by torch as if there were no groups.

What to read off:

- **Peaks of memory are the kernel's, of a first call.** They hold what the allocator can't give
  back, which differs from run to run by tens of MiB, and some 10 MiB of torch's own code that a
  first backward pass loads. "live tensors" beside them counts the bytes of tensors alone, in a
  later call on the smaller image. A first call looks for the default layer, too: of a segmentation
  it may hold some of the last layers a moment longer than a later call, or one that names a layer.
- **The gradient has the size of what it goes through.** In a classifier that is little. Where the
  default layer of a segmentation lies at the image's own size, before a last block of several
  layers (UNet), the gradient through that block is part of the price; before a convolution of one
  voxel (SegResNet) it is hardly seen.
- **A fixed price for each layer.** medsal holds every module, parameter and buffer of the network
  as it was, and fingerprints its weights: some milliseconds for the five hundred modules of a
  DenseNet121, which shows where the forward pass itself takes less than a few hundred.
- **Guided backpropagation** gives back what it has left free, where the allocator is glibc's, as
  soon as that is 32 MiB: at small sizes its peak holds as much. Of a network whose first layer
  takes most of the memory it can't come below the forward pass, and where nearly all time goes into
  convolutions that torch does as quickly as it can, not below two forward passes.
- **Score-CAM in full needs a pass for each channel**, here as elsewhere; with `agreement=0.99`
  passes are made for more and more of them until the others' scores are known well enough from
  these (see `medsal.ScoreCAM`): an approximation, which the result notes. It takes a tenth of the
  passes on a network that is not trained, and what the table of options shows on those that are.
  RISE has masks that reach everywhere: batches are all that can be saved.
- **Occlusion runs what a window reaches**, exactly. Where that soon is all of the network, as in
  DenseNet121 with windows of a quarter, not much is saved; through instance or group norms, behind
  squeeze-and-excitation gates and in transformers, nothing. `coarse=` hides blocks of windows
  first and looks only where they matter: less time on a trained network, more where everything
  matters, as the table of options shows.

{tables}

{growth}## Switches

None of them is ever on by itself.

- `with torch.autocast(device, torch.bfloat16)` around `explain`: passes run in half precision and
  gradients come in float32; measured above where `switches` are.
- `model.to(memory_format=torch.channels_last_3d)`, and the image likewise; measured with it: it
  does not pay on a CPU.
- `torch.compile(model)`: looked through; a map needs the layers, so the model runs as it was
  written.
- CUDA graphs: not used. On a CUDA device the same command measures times and torch's own peaks.
- `batch=` of `occlusion`, `rise`, `scorecam` and `ablationcam`: samples in one pass of the model.
- `agreement=` of `scorecam` and `coarse=` of `occlusion` are approximations, which the result
  notes.
"""

_AGREEMENT = """## Options that approximate, against the full map

Maps of three classes (signed): of the network that medsal ships at 6 held-out scans of 64 x 64 x
64, of EfficientNet-Lite0 with its ImageNet weights at the photographs of a cat and a dog, and of
others, not trained, at 2 random images (`python -m tests.benchmarks --agreement`).

| network | option | time | correlate to 0.99 | lowest | median |
|---|---|---|---|---|---|
"""

_GROWTH = """## How it grows

![time by voxels, classes, layers and samples](images/cost.png)

{}

"""


def machine(asked: argparse.Namespace) -> str:
    """The machine, the versions and the date in a sentence."""
    cuda = torch.cuda.is_available() and asked.device != "cpu"
    where = torch.cuda.get_device_name() if cuda else f"{_processor()}, CPU alone: no GPU was there"
    versions = []
    for name, _ in MODULES.values():
        if name == "medsal":
            versions.append(f"medsal {medsal.__version__}")
            continue
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} absent")
    return (
        f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d} on {where}, {asked.threads} "
        f"of {os.cpu_count()} threads, with torch {torch.__version__}, {', '.join(versions)}, "
        f"Python {platform.python_version()}; median of {asked.repeats} pairs"
        f"{', in parts, one after the other' if asked.keep else ''}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def page(
    rows: list[Row],
    agreements: list[Agreement],
    measured: dict[str, dict[str, Curve]],
    machine: str,
) -> str:
    """The page in Markdown."""
    tables = []
    for what in dict.fromkeys(row.what for row in rows):
        chosen = [row for row in rows if row.what == what]
        lines = [
            f"## {what[0].upper()}{what[1:]}, against {chosen[0].against}\n",
            "| network | size | for memory | who | FLOPs | time | peak memory | live tensors "
            "| kept | same | |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in chosen:
            cells = [row.net, *map(str, (row.size, row.memory_size)), row.who]
            cells += [_times(each) for each in (row.flops, row.time, row.peak, row.live)]
            cells += ["" if row.kept is None else f"{row.kept:.0f}"]
            cells += ["" if row.same is None else f"{row.same:.3f}", row.note.replace("|", "/")]
            lines.append(f"| {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    tables.append(_AGREEMENT + "\n".join(_line(each) for each in agreements))
    growth = _GROWTH.format("\n".join(told(measured))) if measured else ""
    return _TEXT.format(machine=machine, tables="\n\n".join(tables), growth=growth)


def _line(each: Agreement) -> str:
    close = f"{each.close} of {each.maps}"
    numbers = f"{each.time:.2f}x | {close} | {each.lowest:.3f} | {each.median:.4f}"
    return f"| {each.network} | `{each.option}` | {numbers} |"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
