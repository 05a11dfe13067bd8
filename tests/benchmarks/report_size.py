"""The report of a 256 x 256 x 256 scan: its size, and how long it takes to make and to open.

``python -m tests.benchmarks.report_size`` prints both; opening needs Chromium.
"""

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor

import medsal
from medsal.view import report

SIDE = 256


def results() -> list[medsal.SaliencyMap]:
    """A ball of noise with a smooth map and a noisy one: hardly anything of it compresses."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, SIDE, dtype=np.float32)] * 3, indexing="ij")
    ball = (x**2 + y**2 + z**2 < 0.7) * 600 + rng.normal(0, 60, x.shape)
    image = MetaTensor(torch.as_tensor(ball).float()[None, None], affine=torch.eye(4))
    net = torch.nn.Sequential(
        torch.nn.AvgPool3d(16), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16**3, 2)
    )
    smooth = medsal.explain(net, image, method="gradcam", layer="1")
    spot = np.exp(-((x - 0.3) ** 2 + (y - 0.2) ** 2 + (z + 0.1) ** 2) / 0.02)
    noise = torch.as_tensor(spot * rng.normal(size=x.shape)).float()[None, None]
    noisy = replace(smooth, data=noise, method=medsal.GuidedBackprop(), layer=None, cells=None)
    return [replace(smooth, data=torch.as_tensor(spot).float()[None, None]), noisy]


def seconds_to_open(page: str) -> float | None:
    """Until the viewer is ready, in Chromium without a graphics card."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        path.write_text(page, "utf-8")
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
        flags += ["--virtual-time-budget=60000", "--enable-logging=stderr", "--dump-dom"]
        done = subprocess.run(
            [browser, *flags, path.as_uri()], capture_output=True, encoding="utf-8"
        )
    times = re.findall(r":\d{4}/(\d\d)(\d\d)([\d.]+):.*?medsal: (Loading|Ready)", done.stderr)
    clock = {word: int(h) * 3600 + int(m) * 60 + float(s) for h, m, s, word in times}
    return clock["Ready"] - clock["Loading"] if len(clock) == 2 else None


def main() -> None:
    shown = results()
    start = time.perf_counter()
    page = report(shown)
    made = time.perf_counter() - start
    print(f"two maps of {SIDE}^3 voxels: {len(page) / 1e6:.1f} MB, made in {made:.1f} s")
    opened = seconds_to_open(page)
    print(
        "no Chromium" if opened is None else f"viewer ready {opened:.1f} s after its script began"
    )


if __name__ == "__main__":
    main()
