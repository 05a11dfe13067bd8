"""`load_bundle`: weights that are really there, transforms, inferers, and errors of one line."""

import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from bundles import KINDS, classification, segmentation, write_bundle
from monai.networks.nets import DenseNet

from medsal.cli import main
from medsal.demo import BUNDLE
from medsal.monai import Windowed, code_notice, load_bundle
from medsal.scan import read

pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")


def state(root: Path) -> dict[str, torch.Tensor]:
    return torch.load(root / "models/model.pt", weights_only=True)


def same(network: torch.nn.Module, expected: dict[str, torch.Tensor]) -> bool:
    own = network.state_dict()
    return own.keys() == expected.keys() and all(torch.equal(own[k], expected[k]) for k in own)


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_weights(kind: str, tmp_path: Path, scans: list[Path]) -> None:
    root = write_bundle(tmp_path / kind, KINDS[kind]())
    bundle = load_bundle(root, "cpu", trust=True)
    assert same(bundle.network, state(root))
    assert not bundle.network.training
    assert bundle.multilabel == (kind == "multilabel")
    if kind == "multilabel":
        # Its scans have a file for each channel.
        return
    result = bundle.explain(read(scans[0]), 1, "gradient")
    assert result.home().data.shape[2:] == read(scans[0]).shape
    assert isinstance(result.method, Windowed) == (kind in ("segmentation", "slices"))


def test_yaml_and_references(tmp_path: Path) -> None:
    config = classification()
    config |= {"net": config["network_def"], "network_def": "@net"}
    root = write_bundle(tmp_path / "yaml", {**config, "network_def": config["net"]})
    (root / "configs/inference.json").unlink()
    (root / "configs/inference.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert same(load_bundle(root, trust=True).network, state(root))
    # A config without the id that MONAI asks for, but with the network.
    del config["network_def"]
    config["network"] = "@net"
    (root / "configs/inference.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert same(load_bundle(root, trust=True).network, state(root))


@pytest.mark.parametrize("wrap", ["model", "state_dict", "network", "parallel", "twice"])
def test_wrapped_weights(wrap: str, tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "wrapped", classification())
    expected = state(root)
    wrapped = {
        "parallel": {f"module.{key}": value for key, value in expected.items()},
        "twice": {"state_dict": {"model": expected}, "epoch": 3},
    }.get(wrap, {wrap: expected, "optimizer": {"lr": 0.1}})
    torch.save(wrapped, root / "models/model.pt")
    assert same(load_bundle(root, trust=True).network, expected)


def test_weights_where_the_config_says(tmp_path: Path) -> None:
    """The handler's own path counts, not the file that lies beside it."""
    config = classification()
    config["val_handlers"][0]["load_path"] = "$@bundle_root + '/models/best.pt'"
    root = write_bundle(tmp_path / "best", config)
    other = {key: value + 1 for key, value in state(root).items()}
    torch.save(other, root / "models/best.pt")
    assert same(load_bundle(root, trust=True).network, other)
    (root / "models/best.pt").unlink()
    assert same(load_bundle(root, trust=True).network, state(root))


def test_errors_are_one_line(tmp_path: Path, scans: list[Path]) -> None:
    def refuse(kind: type[Exception], root: Path, *words: str) -> None:
        with pytest.raises(kind) as caught:
            load_bundle(root, trust=True)
        assert "\n" not in str(caught.value)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    refuse(FileNotFoundError, tmp_path, "no MONAI bundle")
    root = write_bundle(tmp_path / "broken", classification())
    model = root / "models/model.pt"
    weights = state(root)
    weights["class_layers.out.weight"] = torch.zeros(7, 3)
    del weights["features.conv0.weight"]
    weights["head.more"] = torch.zeros(1)
    torch.save(weights, model)
    refuse(
        ValueError, root, "class_layers.out.weight is (7, 3), expected (4,",
        "missing: features.conv0.weight", "not in the network: head.more",
    )  # fmt: skip
    torch.save([1, 2], model)
    refuse(ValueError, root, "no state_dict", "list")
    torch.save(DenseNet(3, 1, 2, block_config=(1,)), model)
    refuse(ValueError, root, "weights_only=True")
    model.write_bytes(b"PK damaged")
    refuse(ValueError, root, "model.pt")
    model.unlink()
    refuse(FileNotFoundError, root, "no weights")
    (root / "models/model.ts").write_bytes(b"script")
    refuse(FileNotFoundError, root, "TorchScript alone", "models/model.pt")
    refuse(ValueError, write_bundle_without(tmp_path, "preprocessing"), "expected 'preprocessing'")
    wrong = classification()
    wrong["preprocessing"] = {"_target_": "nowhere.Compose"}
    refuse(ValueError, write_bundle(tmp_path / "wrong", wrong), "'preprocessing'", "nowhere")


def write_bundle_without(tmp_path: Path, name: str) -> Path:
    config = classification()
    del config[name]
    return write_bundle(tmp_path / f"without_{name}", config)


def test_the_transform_that_loses_the_place_is_named(tmp_path: Path, scans: list[Path]) -> None:
    config = classification()
    lose = {"_target_": "EnsureTyped", "keys": "image", "track_meta": False}
    config["preprocessing"]["transforms"].append(lose)
    bundle = load_bundle(write_bundle(tmp_path / "loses", config), trust=True)
    with pytest.raises(
        ValueError, match=r"lose the scan's place: EnsureTyped, step 6 of .* gives a Tensor"
    ):
        bundle.prepare(read(scans[0]))


def test_code_is_told_before_it_runs(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    config = classification()
    config["network_def"] = f"$__import__('pathlib').Path('{ran}').touch()"
    root = write_bundle(tmp_path / "code", classification())
    (root / "configs/inference.json").write_text(json.dumps(config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=r"bundle code runs code .* trust=True"):
            load_bundle(root)
    assert not ran.exists()
    with pytest.raises(ValueError, match="NoneType"):
        load_bundle(root, trust=True)
    assert ran.exists()


def test_what_comes_with_medsal_is_silent(tmp_path: Path) -> None:
    assert code_notice(BUNDLE) is None
    assert code_notice(write_bundle(tmp_path / "other", segmentation()))
    load_bundle(BUNDLE, "cpu")


def test_the_command_line_tells_it_too(
    tmp_path: Path, scans: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_bundle(tmp_path / "spleen", segmentation())
    with pytest.raises(SystemExit) as stop:
        main(["explain", str(root), str(scans[0]), "-o", str(tmp_path / "out"), "--target", "1"])
    said = capsys.readouterr()
    assert not stop.value.code
    assert said.err.startswith("medsal: bundle spleen runs code")
    assert list((tmp_path / "out").glob("scan0_label-1_desc-windowedgradcam_saliency.nii.gz"))
