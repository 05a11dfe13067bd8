"""`medsal explain --from-sidecar`: the same map, or one line that says what is another."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medsal.cli import main

STEM = "patient-7_label-bright_desc-smoothgrad_saliency"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(each) for each in arguments])
        printed = capsys.readouterr()
        return int(stop.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def sidecar(run, bundle: Path, scan: Path, tmp_path: Path) -> Path:
    arguments = ["--method", "smoothgrad", "--option", "samples=3", "--option", "seed=5"]
    outcome = run("explain", bundle, scan, "-o", tmp_path / "out", "--target", "bright", *arguments)
    assert outcome[0] == 0, outcome[2]
    return tmp_path / "out" / f"{STEM}.json"


def test_the_same_map_is_written_again(run, bundle, scan, sidecar, tmp_path) -> None:
    again = tmp_path / "again"
    status, said, err = run("explain", bundle, scan, "-o", again, "--from-sidecar", sidecar)
    assert (status, err) == (0, "")
    assert "identical to the map before, bit for bit" in said
    one, two = (nibabel.load(each / f"{STEM}.nii.gz") for each in (sidecar.parent, again))
    np.testing.assert_array_equal(one.get_fdata(), two.get_fdata())
    # The one that was made again can be made again as well.
    status, said, _ = run(
        "explain", bundle, scan, "-o", tmp_path / "third", "--from-sidecar", again / f"{STEM}.json"
    )
    assert "bit for bit" in said
    before, now = (
        json.loads((each / f"{STEM}.json").read_text()) for each in (sidecar.parent, again)
    )
    assert before["Method"]["Parameters"] == now["Method"]["Parameters"]
    assert before["Method"]["Parameters"]["seed"] == 5
    assert before["Bundle"]["Version"] == "0.3.1"
    assert str(tmp_path) not in json.dumps(before)


def test_scan_and_bundle_are_found_beside(run, bundle, scan, sidecar, tmp_path) -> None:
    status, said, _ = run("explain", bundle, "--from-sidecar", sidecar, "-o", tmp_path / "a")
    assert status == 0  # the scan lies in the folder above the sidecar's
    assert "bit for bit" in said
    status, _, err = run("explain", "--from-sidecar", sidecar, "-o", tmp_path / "b")
    assert status == 2
    assert "expected the bundle" in err
    assert "lesions" in err
    shutil.copytree(bundle, tmp_path / "lesions")
    status, said, _ = run("explain", "--from-sidecar", sidecar)
    assert (status, "bit for bit" in said) == (0, True)
    assert (sidecar.parent / "again" / f"{STEM}.nii.gz").exists()


def test_the_arguments_of_the_forward_pass_are_given_again(run, bundle, scan, sidecar) -> None:
    said = json.loads(sidecar.read_text())

    def again(image: str, arguments: dict[str, object]) -> tuple[int, str, str]:
        said["Forward"] = {"Image": image, "Arguments": arguments}
        sidecar.write_text(json.dumps(said))
        return run("explain", bundle, scan, "--from-sidecar", sidecar)

    status, out, _ = again("x", {})
    assert (status, "bit for bit" in out) == (0, True)
    for outcome in (again("y", {}), again("x", {"context": {"Unspelled": "my.Context"}})):
        assert (outcome[0], outcome[2].count("\n")) == (2, 1)
    assert "argument 'context': a sidecar can't hold my.Context" in outcome[2]


def test_another_scan_or_bundle_is_one_line(run, bundle, scan, sidecar, tmp_path) -> None:
    def refused(words: str, *arguments: object) -> None:
        status, _, err = run("explain", *arguments, "--from-sidecar", sidecar, "-o", tmp_path / "n")
        assert (status, err.count("\n")) == (2, 1)
        assert words in err
        assert not (tmp_path / "n").exists()

    other = tmp_path / "other.nii.gz"
    source = nibabel.load(scan)
    nibabel.save(nibabel.Nifti1Image(source.get_fdata() + 1, source.affine), other)
    refused("is not the scan of", bundle, other)
    refused("leave these out", bundle, scan, "--method", "gradcam")
    refused("got 2 scans", bundle, scan, other)
    changed = tmp_path / "changed"
    shutil.copytree(bundle, changed)
    weights = torch.load(changed / "models/model.pt", weights_only=True)
    name = next(name for name in weights if name.endswith("weight"))
    weights[name] = weights[name] + 1e-3
    torch.save(weights, changed / "models/model.pt")
    refused("the network is not that of", changed, scan)
    shutil.rmtree(changed)
    shutil.copytree(bundle, changed)
    config = json.loads((changed / "configs/inference.json").read_text())
    config["preprocessing"]["transforms"][3]["pixdim"] = [2.0, 2.0, 2.5]
    (changed / "configs/inference.json").write_text(json.dumps(config))
    refused("prepares scans otherwise", changed, scan)
    assert "Traceback" not in run("explain", "--from-sidecar", tmp_path / "none.json")[2]
