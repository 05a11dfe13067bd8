"""The overlay over bundles of a checkout of the model zoo: `python over_the_zoo.py ZOO [NAME ...]`.

Each bundle is copied, given random weights and small oblique scans, and run twice by MONAI, as it
is and overlaid: the predictions must be equal, and each scan must have a map on its own grid.
"""

import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from oblique import write_scan
from PIL import Image

OVERLAY = Path(__file__).parents[2] / "configs/saliency.json"
WINDOW = 64
"""Windows larger than this are made smaller, for the time that they take."""


def config_of(bundle: Path) -> Path:
    found = sorted(bundle.glob("configs/inference.*"))
    return next(path for path in found if path.suffix in (".json", ".yaml", ".yml"))


def small(parser: ConfigParser) -> dict[str, Any]:
    """What is changed on the command line to make the run short."""
    changed: dict[str, Any] = {"dataloader::num_workers": 0}
    roi = (parser.get("inferer") or {}).get("roi_size")
    if isinstance(roi, list) and all(isinstance(size, int) for size in roi):
        changed["inferer::roi_size"] = [min(size, WINDOW) for size in roi]
    return changed


def inputs(folder: Path, axes: int, channels: int) -> list[dict[str, Any]]:
    """Two samples: pictures for networks of 2 axes, else scans, with a file for each channel."""
    folder.mkdir(parents=True, exist_ok=True)
    if axes == 2:
        y, x = np.mgrid[:90, :140]
        paths = []
        for i in range(2):
            grey = np.stack([x + 10 * i, 2 * y, x * y // 90], -1).clip(0, 255).astype(np.uint8)
            paths.append(folder / f"picture{i}.png")
            Image.fromarray(grey if channels == 3 else grey[..., 0]).save(paths[-1])
        return [{"image": str(path)} for path in paths]
    samples = []
    for i in range(2):
        files = [write_scan(folder / f"scan{i}_{k}.nii.gz", 0.2 - 0.3 * i) for k in range(channels)]
        samples.append({"image": str(files[0]) if channels == 1 else [str(path) for path in files]})
    return samples


def predictions(bundle: Path, changed: dict[str, Any], *overlay: str) -> list[Any]:
    parser = ConfigParser()
    parser.read_config(str(config_of(bundle)))
    flow = ConfigWorkflow(
        config_file=[str(config_of(bundle)), *overlay],
        meta_file=str(bundle / "configs/metadata.json"),
        logging_file=False,
        workflow_type="infer",
        run_id="run" if "run" in parser.get() else "evaluating",
        bundle_root=str(bundle),
        **changed,
    )
    flow.initialize()
    evaluator = flow.parser.get_parsed_content("evaluator")
    inner, found = evaluator.inferer, []

    def watched(*args: Any, **kwargs: Any) -> Any:
        found.append(inner(*args, **kwargs))
        return found[-1].clone()

    evaluator.inferer = watched
    torch.manual_seed(0)
    flow.run()
    return found


def check(bundle: Path, root: Path) -> str:
    copy = root / bundle.name
    shutil.copytree(bundle, copy)
    sys.path.insert(0, str(copy))
    parser = ConfigParser()
    parser.read_config(str(config_of(copy)))
    network = parser.get_parsed_content("network_def")
    (copy / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), copy / "models/model.pt")
    definition = parser.get("network_def")
    axes, channels = definition.get("spatial_dims", 3), definition.get("in_channels", 3)
    samples = inputs(root / f"data_{bundle.name}", axes, channels)
    changed = {**small(parser), "dataset::data": samples}
    plain = predictions(copy, changed)
    overlaid = predictions(
        copy, {**changed, "saliency::output_dir": str(root / "maps")}, str(OVERLAY)
    )
    if not all(torch.equal(a, b) for a, b in zip(plain, overlaid, strict=True)):
        return "the predictions differ"
    found = sorted((root / "maps").rglob("*_saliency.nii.gz"))
    scans = [s["image"] if isinstance(s["image"], str) else s["image"][0] for s in samples]
    if len(found) != len(scans):
        return f"expected {len(scans)} maps, got {len(found)}"
    for scan, path in zip(scans, found, strict=True):
        if scan.endswith(".nii.gz"):
            theirs, ours = nibabel.load(scan), nibabel.load(path)
            if theirs.shape != ours.shape or not np.allclose(theirs.affine, ours.affine, atol=1e-4):
                return f"{path.name} does not lie on {scan}"
    shutil.rmtree(root / "maps")
    return "ok"


def main() -> None:
    zoo, names = Path(sys.argv[1]), sys.argv[2:]
    warnings.simplefilter("ignore")
    models = zoo / "models" if (zoo / "models").is_dir() else zoo
    failed = 0
    for bundle in sorted(path.parent.parent for path in models.glob("*/configs/inference.*")):
        if names and bundle.name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                said = check(bundle, Path(folder))
            except Exception as error:
                last = traceback.format_exception(error.__cause__ or error)[-1].strip()
                said = f"failed: {last.splitlines()[0][:200]}"
        failed += said != "ok"
        sys.stdout.write(f"{bundle.name}: {said}\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
