"""The bundle is one: MONAI runs it, and it says of the demo scan what is true."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import monai.bundle
import monai.data
import pytest
import torch

from medsal.demo import BUNDLE, CLASSES, SCAN, TRUTH
from medsal.demo.evaluate import configuration, load_network

META = json.loads((BUNDLE / "configs" / "metadata.json").read_text())

# A file that is there is not downloaded.
SCHEMA = Path(__file__).with_name("metadata_schema.json")


@pytest.mark.filterwarnings("ignore:No hash value provided")
def test_monai_verifies_the_metadata(tmp_path):
    meta = str(BUNDLE / "configs/metadata.json")
    monai.bundle.verify_metadata(meta_file=meta, filepath=str(SCHEMA))
    assert META["version"] in META["changelog"]
    for tensor in (META["network_data_format"][of] for of in ("inputs", "outputs")):
        for each in tensor.values():
            assert len(each["channel_def"]) == each["num_channels"]
    broken = tmp_path / "metadata.json"
    for name in json.loads(SCHEMA.read_text())["required"]:
        broken.write_text(json.dumps({key: META[key] for key in META if key != name}))
        with pytest.raises(ValueError, match=f"(Failed validating|{name})"):
            monai.bundle.verify_metadata(meta_file=str(broken), filepath=str(SCHEMA))
    wrong = {**META, "network_data_format": {"inputs": {"image": {"type": "image"}}, "outputs": {}}}
    broken.write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="Failed validating"):
        monai.bundle.verify_metadata(meta_file=str(broken), filepath=str(SCHEMA))


def test_monai_finds_the_network_as_the_metadata_say():
    monai.bundle.verify_net_in_out(
        "network_def",
        meta_file=str(BUNDLE / "configs/metadata.json"),
        config_file=str(BUNDLE / "configs/inference.json"),
        device="cpu",
    )


def test_monai_exports_it(tmp_path):
    """As TorchScript with the metadata inside, which gives what the network gives."""
    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(BUNDLE / "models/model.pt"),
        meta_file=str(BUNDLE / "configs/metadata.json"),
        config_file=str(BUNDLE / "configs/inference.json"),
    )
    script, metadata, extra = monai.data.load_net_with_metadata(
        str(tmp_path / "model.ts"), more_extra_files=("inference.json",)
    )
    assert metadata["name"] == META["name"]
    assert json.loads(extra["inference.json"])["network_def"]["_target_"] == "DenseNet"
    image = torch.rand(1, 1, 40, 40, 40)
    torch.testing.assert_close(script.eval()(image), load_network().eval()(image))


def test_metadata_names_the_classes_and_the_grid():
    formats = META["network_data_format"]
    assert tuple(formats["outputs"]["pred"]["channel_def"].values()) == CLASSES
    shape = formats["inputs"]["image"]["spatial_shape"]
    assert load_network()(torch.zeros(1, 1, *shape)).shape == (1, len(CLASSES))


def test_configurations_and_weights_stay_small():
    size = sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file())
    assert size < 4 * 2**20


def test_the_folder_is_laid_out_as_a_bundle():
    for name in (
        "configs/metadata.json",
        "configs/inference.json",
        "configs/train.json",
        "models/model.pt",
        "docs/README.md",
        "LICENSE",
    ):
        assert (BUNDLE / name).stat().st_size > 0, name


def test_weights_are_a_plain_state_dict():
    state = torch.load(BUNDLE / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert all(torch.isfinite(value).all() for value in state.values())
    network = configuration(BUNDLE).get_parsed_content("network_def")
    network.load_state_dict(state, strict=True)


def test_every_activation_is_a_relu():
    names = {type(m).__name__ for m in load_network().modules()}
    assert "ReLU" in names
    assert not names & {"LeakyReLU", "PReLU", "SiLU", "GELU", "ELU", "Sigmoid", "Swish"}


def test_training_and_inference_build_the_same_network_and_normalise_alike():
    train = json.loads((BUNDLE / "configs" / "train.json").read_text())
    infer = json.loads((BUNDLE / "configs" / "inference.json").read_text())
    assert train["network_def"] == infer["network_def"]
    assert train["normalise"]["func"] == infer["normalise"]["func"]


def test_inference_has_the_ids_that_tools_rely_on():
    ids = json.loads((BUNDLE / "configs" / "inference.json").read_text())
    wanted = "bundle_root device network_def network preprocessing dataset dataloader inferer"
    wanted += " postprocessing handlers evaluator output_dir dataset_dir image_key initialize run"
    assert set(wanted.split()) <= set(ids)
    assert ids["evaluator"]["inferer"] == "@inferer"


def test_monai_runs_it_and_it_says_what_is_true(tmp_path):
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", "configs/inference.json", "--output_dir", str(tmp_path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=BUNDLE, capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (row,) = csv.reader((tmp_path / "predictions.csv").read_text().splitlines())
    assert row[0].endswith(SCAN.name)
    shares = [float(value) for value in row[1:]]
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    assert CLASSES[shares.index(max(shares))] == json.loads(TRUTH.read_text())["kind"]
    assert max(shares) > 0.8


def test_a_folder_that_is_no_bundle_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no configs/inference\.json"):
        load_network(tmp_path)
