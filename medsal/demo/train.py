"""Train the bundle's network: `python -m medsal.demo.train [--out DIR] [--seed 0]`.

Drives the bundle's own `configs/train.json`; `python -m monai.bundle run --config_file
configs/train.json` in the bundle's folder does the same. Then it measures the result on Colin27.
Progress goes to stderr, figures to stdout.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from monai.bundle import ConfigWorkflow

from medsal.demo import BUNDLE
from medsal.demo.evaluate import METHODS, load_network, run


def train(out: Path, seed: int = 0, **changes: object) -> Path:
    """Train by `configs/train.json` and return the file of weights, `out/model.pt`.

    Args:
        out: folder for the weights.
        seed: of weights and samples.
        **changes: other ids of the configuration, e.g. `samples=12`.
    """
    out.mkdir(parents=True, exist_ok=True)
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.json"),
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        bundle_root=str(BUNDLE),
        ckpt_dir=str(out),
        seed=seed,
        **changes,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return out / "model.pt"


def processor_time() -> float:
    """Return the processor time of this process and its finished workers [s]."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(argv: list[str] | None = None) -> None:
    """Train, report the time, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("medsal-demo"), metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=240, help="held-out samples of each mode")
    args = parser.parse_args(argv)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    wall, work = time.perf_counter(), processor_time()
    weights = train(args.out, args.seed)
    wall, work = time.perf_counter() - wall, processor_time() - work
    sys.stdout.write(f"trained in {wall:.0f} s ({work:.0f} s of processor time): {weights}\n")
    sys.stdout.flush()
    sys.stdout.write(run(load_network(BUNDLE, weights), BUNDLE, args.count, METHODS) + "\n")


if __name__ == "__main__":
    main()
