"""On another device than the CPU everything is as on it: a GPU, or one that is made of the CPU."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.device import far

COMPILER = shutil.which("c++") or shutil.which("g++")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The device's name, and the library that has it."""
    if torch.cuda.is_available():
        return ["cuda"]
    if not COMPILER:
        pytest.skip("needs a GPU or a C++ compiler")
    return ["far", str(far.build(tmp_path_factory.mktemp("far"), COMPILER))]


def run(*order: str) -> str:
    return subprocess.run(
        [sys.executable, *order], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def test_everything_is_as_on_the_cpu(device: list[str]) -> None:
    said = run("-m", "tests.device.on_another", *device).splitlines()
    rows: list[dict[str, Any]] = [json.loads(each) for each in said]
    assert {each["what"]: each["difference"] for each in rows if each["difference"]} == {}
    answered = [each for each in rows if "Error" not in each["cpu"]]
    # Most are maps and numbers; of the errors, each is one that a method is to give.
    assert len(answered) > 80
    refused = [each["cpu"] for each in rows if "Error" in each["cpu"]]
    assert all("is defined" in each for each in refused), refused


def test_an_explanation_waits_for_the_device_a_few_times(device: list[str]) -> None:
    said = run("-m", "tests.device.waits", *device).splitlines()
    waits = {name: int(count) for name, count in map(str.split, said)}
    # Whether image, scores, map, buffers and weights are as they should be; a segmentation's region
    # is looked at besides.
    assert waits["resnet"] <= 8, waits
    assert waits["densenet"] <= 10, waits
    assert waits["segresnet"] <= 14, waits


MIXED = """
import sys, torch
from pathlib import Path
from tests.device import far
far.register(Path(sys.argv[1]))
x = torch.arange(6.0).view(2, 3).to("far")
print(x.device, (x[1:, 1:] * 2 + 1).cpu().tolist(), float(x.sum()))
x[:, 0] += 1
print(x.cpu().tolist())
for call in (lambda: x + torch.ones(3), lambda: torch.nn.functional.conv1d(x, torch.ones(1, 2, 1))):
    try:
        call()
    except RuntimeError as error:
        print("refused:", str(error).splitlines()[0])
"""


def test_the_device_that_is_made_of_the_cpu_refuses_its_tensors(device: list[str]) -> None:
    if device[0] != "far":
        pytest.skip("a GPU is there")
    lines = run("-c", MIXED, device[1]).splitlines()
    assert lines[:2] == ["far:0 [[9.0, 11.0]] 15.0", "[[1.0, 1.0, 2.0], [4.0, 4.0, 5.0]]"]
    assert len(lines) == 4
    assert all(each.startswith("refused:") for each in lines[2:])
