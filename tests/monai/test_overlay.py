"""`configs/saliency.json` over unmodified bundles, by MONAI's own command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from bundles import KINDS, write_bundle
from monai.bundle import ConfigWorkflow, run

import medsal
from medsal.cli import main
from medsal.monai import SaliencyInferer

OVERLAY = Path(__file__).parents[2] / "configs/saliency.json"
# MONAI warns of parsing configs, of amp without a GPU, of its default log file, and more.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=KINDS)
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write_bundle(tmp_path / request.param, KINDS[request.param]())


def maps(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*_saliency.nii.gz"))


def on_its_scan(path: Path, scans: list[Path]) -> None:
    """The map lies on the grid of the scan whose name it bears, and is not empty."""
    (scan,) = (scan for scan in scans if path.name.startswith(scan.name.removesuffix(".nii.gz")))
    theirs, ours = nibabel.load(scan), nibabel.load(path)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    assert np.abs(ours.get_fdata()).max() > 0


def workflow(bundle: Path, scans: list[Path], *overlay: Path, **changed) -> list[torch.Tensor]:
    """Run the bundle in this process; what it predicted, before its own transforms."""
    flow = ConfigWorkflow(
        config_file=[str(next(bundle.glob("configs/inference.*"))), *map(str, overlay)],
        meta_file=str(bundle / "configs/metadata.json"),
        logging_file=False,
        workflow_type="infer",
        run_id="run" if bundle.name != "initialized" else "evaluating",
        bundle_root=str(bundle),
        dataset_dir=str(scans[0].parent),
        **changed,
    )
    flow.initialize()
    predictions: list[torch.Tensor] = []
    inner = flow.parser.get_parsed_content("evaluator").inferer

    class Watched:
        def __call__(self, *args, **kwargs):
            predictions.append(inner(*args, **kwargs))
            return predictions[-1].clone()

    flow.parser.get_parsed_content("evaluator").inferer = Watched()
    flow.run()
    flow.finalize()
    return predictions


def test_same_predictions_and_maps_on_each_scan(
    bundle: Path, scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    plain = workflow(bundle, scans)
    overlaid = workflow(bundle, scans, OVERLAY, **{"saliency::outputs": ["nifti"]})
    assert len(plain) == len(overlaid) > 0
    assert all(torch.equal(a, b) for a, b in zip(plain, overlaid, strict=True))
    where = {"initialized": "results"}.get(bundle.name, "eval")
    found = maps(bundle / where / "saliency")
    assert len(found) == 2
    for path in found:
        on_its_scan(path, scans)
    assert all(path.read_bytes() == content for path, content in before.items())


def command(bundle: Path, scans: list[Path], *words: str) -> subprocess.CompletedProcess[str]:
    """MONAI's command as a user gives it, in the bundle's folder."""
    files = f"['configs/inference.json','{OVERLAY}']"
    given = ["--config_file", files, "--bundle_root", ".", "--dataset_dir", str(scans[0].parent)]
    return subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", *given, *words],
        cwd=bundle,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_by_monais_command(scans: list[Path], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "spleen", KINDS["segmentation"]())
    given = {"method": "gradient", "target": "1", "outputs": "['nifti','png']"}
    ran = command(
        bundle, scans, *(word for k, v in given.items() for word in (f"--saliency::{k}", v))
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = maps(bundle / "eval/saliency")
    assert [path.name for path in found] == [
        f"scan{i}_label-1_desc-windowedgradient_saliency.nii.gz" for i in range(2)
    ]
    for path in found:
        on_its_scan(path, scans)
    # The bundle's own output is there too.
    assert list((bundle / "eval/scan0").glob("*_trans.nii.gz"))


def test_overrides(scans: list[Path], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "template", KINDS["classification"]())
    changed = {
        "saliency::method": "guided_gradcam",
        "saliency::layer": "features.denseblock1",
        "saliency::target": [0, 3],
        "saliency::channels": "norm",
        "saliency::outputs": ["nifti"],
        "saliency::output_dir": str(tmp_path / "elsewhere"),
    }
    workflow(bundle, scans, OVERLAY, **changed)
    found = maps(tmp_path / "elsewhere")
    assert {path.suffix for path in (tmp_path / "elsewhere/scan0").iterdir()} == {".gz", ".json"}
    assert [path.name for path in found] == [
        f"scan{i}_label-{k}_desc-guidedgradcam_saliency.nii.gz" for i in range(2) for k in (0, 3)
    ]
    sidecar = json.loads(Path(str(found[0]).replace(".nii.gz", ".json")).read_text())
    assert sidecar["Layer"]["Name"] == ["features.denseblock1"]
    with pytest.raises(RuntimeError) as caught:
        workflow(bundle, scans, OVERLAY, **{"saliency::method": "gradcamm"})
    assert "near it: 'gradcam'" in str(caught.value.__cause__)


def test_it_is_the_map_of_explain(scans: list[Path], tmp_path: Path) -> None:
    """With the weights that the bundle loads when it runs, on the image of its transforms."""
    bundle = write_bundle(tmp_path / "template", KINDS["classification"]())
    workflow(bundle, scans, OVERLAY, **{"saliency::target": 2})
    loaded = medsal.monai.load_bundle(bundle)
    scan = medsal.scan.read(scans[1])
    expected = loaded.explain(scan, 2).home()
    (found,) = maps(bundle / "eval/saliency/scan1")
    np.testing.assert_allclose(
        nibabel.load(found).get_fdata(), expected.data[0, 0].numpy(), rtol=1e-4, atol=1e-6
    )


def test_a_config_that_names_monais_inferer_switches_by_one_line(scans, tmp_path: Path) -> None:
    config = KINDS["classification"]()
    config["inferer"] = {
        "_target_": "medsal.monai.SaliencyInferer",
        "cam_name": "GradCAM",
        "target_layers": "features.denseblock1",
    }
    bundle = write_bundle(tmp_path / "switched", config)
    flow = ConfigWorkflow(
        config_file=str(bundle / "configs/inference.json"), workflow_type="infer",
        meta_file=str(bundle / "configs/metadata.json"), logging_file=False,
        bundle_root=str(bundle), dataset_dir=str(scans[0].parent),
    )  # fmt: skip
    flow.initialize()
    inferer = flow.parser.get_parsed_content("inferer")
    assert isinstance(inferer, SaliencyInferer)
    flow.run()
    assert len(inferer.results) == 2
    assert inferer.results[0].layer == "features.denseblock1"


def test_yaml_classes_and_channels_that_do_not_compete(scans: list[Path], tmp_path: Path) -> None:
    """The config's transforms and the metadata are asked; what is given by hand counts more."""
    config = KINDS["multilabel"]()
    bundle = write_bundle(tmp_path / "brats", config, ("Tumor core", "Whole tumor", "Enhancing"))
    (bundle / "configs/inference.json").unlink()
    (bundle / "configs/inference.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    targets = {
        "saliency::target": ["tumor core", 1, "Enhancing"],
        "saliency::method": "gradient",
        "saliency::outputs": ["nifti"],
    }
    predictions = workflow(bundle, scans, OVERLAY, **targets)
    positive = (predictions[0][0] > 0).flatten(1).sum(1).tolist()
    found = maps(bundle / "eval/saliency/scan0")
    names = {"Tumorcore": positive[0], "Wholetumor": positive[1], "Enhancing": positive[2]}
    assert sorted(path.name.split("_")[1] for path in found) == sorted(
        f"label-{name}" for name, count in names.items() if count
    )
    for path in found:
        on_its_scan(path, scans)
        said = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())["Target"]
        assert f"mask=<{names[said['Name']]} voxels>" in said["Definition"]
    changed = {
        "saliency::multilabel": False,
        "saliency::classes": ["a", "b", "c"],
        "saliency::target": [0, 1, 2],
    }
    workflow(bundle, scans, OVERLAY, **{**targets, **changed})
    winning = predictions[0][0].argmax(0).flatten().bincount(minlength=3).tolist()
    for name, count in zip("abc", winning, strict=True):
        sidecars = list((bundle / "eval/saliency/scan0").glob(f"*_label-{name}_*.json"))
        assert len(sidecars) == (count > 0)
        assert all(f"mask=<{count} voxels>" in path.read_text() for path in sidecars)


def test_run_as_a_function(scans: list[Path], tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "template", KINDS["classification"]())
    run(
        config_file=[str(bundle / "configs/inference.json"), str(OVERLAY)],
        meta_file=str(bundle / "configs/metadata.json"),
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(scans[0].parent),
        output_dir=str(tmp_path / "given"),
    )
    assert len(maps(tmp_path / "given/saliency")) == 2


def test_medsal_overlay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def medsal_overlay(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["overlay", *words])
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    assert medsal_overlay() == (0, OVERLAY.read_text(), "")
    path = tmp_path / "made/saliency.json"
    for _ in range(2):
        status, said, _ = medsal_overlay("-o", str(path))
        assert status == 0
        assert str(path) in said
        assert path.read_bytes() == OVERLAY.read_bytes()
    path.write_text("{}")
    status, _, error = medsal_overlay("-o", str(path))
    assert (status, path.read_text()) == (2, "{}")
    assert "not written over" in error


def test_one_text() -> None:
    packed = Path(medsal.__file__).parent / "monai/saliency.json"
    assert packed.read_bytes() == OVERLAY.read_bytes()
