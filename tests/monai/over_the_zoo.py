"""The overlay over bundles of a checkout of the model zoo: `python over_the_zoo.py ZOO [NAME ...]`.

Each bundle is copied, given random weights and small oblique scans, and run twice by MONAI, as it
is and overlaid: the predictions must be equal, and each scan must have a map on its own grid.
"""

import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from oblique import write_scan
from PIL import Image
from torch.utils._pytree import tree_leaves, tree_map

from medsal.monai.metadata import Metadata
from medsal.monai.weights import loaded

OVERLAY = Path(__file__).parents[2] / "configs/saliency.json"
SHAPE = (48, 40, 32)
WINDOW = 64
"""Windows larger than this are made smaller, for the time that they take."""
RUNS = ("run", "evaluating", "inference", "eval")


def config_of(bundle: Path) -> Path:
    found = sorted(bundle.glob("configs/inference.*"))
    return next(path for path in found if path.suffix in (".json", ".yaml", ".yml"))


def parsed(bundle: Path, changed: Mapping[str, Any] = {}) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(config_of(bundle)))
    parser.update({"bundle_root": str(bundle), **changed})
    return parser


def small(parser: ConfigParser) -> dict[str, Any]:
    """What is changed on the command line to make the run short."""
    loader = "dataloader" if "dataloader" in parser.get() else "data_loader"
    changed: dict[str, Any] = {f"{loader}::num_workers": 0}
    roi = (parser.get("inferer") or {}).get("roi_size")
    if isinstance(roi, list) and all(isinstance(size, int) for size in roi):
        changed["inferer::roi_size"] = [min(size, WINDOW) for size in roi]
    return changed


def components(config: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The components of a config, with their ids."""
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield name, config
        entries = list(config.items())
    else:
        entries = list(enumerate(config)) if isinstance(config, list) else []
    for key, value in entries:
        yield from components(value, f"{name}::{key}" if name else str(key))


def image_keys(parser: ConfigParser) -> list[str]:
    """What the bundle's own transforms load."""
    for name, component in components(parser.get(), ""):
        if str(component["_target_"]).split(".")[-1] == "LoadImaged":
            keys = parser.get_parsed_content(f"{name}::keys")
            return [keys] if isinstance(keys, str) else list(keys)
    return ["image"]


def samples(folder: Path, keys: list[str], axes: int, channels: int) -> list[dict[str, Any]]:
    """Two samples: pictures for networks of 2 axes, else scans, with a file for each channel."""
    folder.mkdir(parents=True)
    found: list[dict[str, Any]] = []
    for i in range(2):
        # Metrics of some bundles ask for it.
        sample: dict[str, Any] = {"label": 1}
        for key in keys:
            name = f"{key}{i}"
            if axes == 2:
                sample[key] = picture(folder / f"{name}.png", i, 3 if channels >= 3 else 1, key)
                continue
            count = channels if len(keys) == 1 else 1
            files = [
                str(write_scan(folder / f"{name}_{k}.nii.gz", 0.2 - 0.3 * i, SHAPE))
                for k in range(count)
            ]
            sample[key] = files if count > 1 else files[0]
        found.append(sample)
    return found


def picture(path: Path, i: int, channels: int, key: str) -> str:
    y, x = np.mgrid[:96, :144]
    colours = np.stack([x + 10 * i, 2 * y, x * y // 90], -1).clip(0, 255).astype(np.uint8)
    if key == "label":
        colours = np.repeat((colours[..., 2:] > 60).astype(np.uint8), 3, 2)
    one = channels == 1 or key == "label"
    Image.fromarray(colours[..., 0] if one else colours).save(path)
    return str(path)


def predictions(bundle: Path, changed: dict[str, Any], *overlay: str) -> list[Any]:
    ids = parsed(bundle).get()
    flow = ConfigWorkflow(
        config_file=[str(config_of(bundle)), *overlay],
        meta_file=str(bundle / "configs/metadata.json"),
        logging_file=False,
        workflow_type="infer",
        run_id=next(name for name in RUNS if name in ids),
        bundle_root=str(bundle),
        **changed,
    )
    torch.manual_seed(0)
    flow.initialize()
    evaluator = flow.parser.get_parsed_content("evaluator")
    inner, found = evaluator.inferer, []

    def watched(*args: Any, **kwargs: Any) -> Any:
        found.append(inner(*args, **kwargs))
        return copied(found[-1])

    evaluator.inferer = watched
    torch.manual_seed(0)
    flow.run()
    return found


def copied(output: Any) -> Any:
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, output)


def same(a: Any, b: Any) -> bool:
    pairs = zip(tree_leaves(a), tree_leaves(b), strict=True)
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


def check(bundle: Path, root: Path) -> str:
    copy = root / bundle.name
    shutil.copytree(bundle, copy)
    with own_code(copy):
        return checked(copy, root)


@contextmanager
def own_code(bundle: Path) -> Iterator[None]:
    """Bundles keep code of their own, each under the same name."""
    before = set(sys.modules)
    sys.path.insert(0, str(bundle))
    try:
        yield
    finally:
        sys.path.remove(str(bundle))
        for name in set(sys.modules) - before:
            if str(bundle) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def checked(copy: Path, root: Path) -> str:
    parser = parsed(copy)
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    for path in [*loaded(parser), copy / "models/model.pt"]:
        if copy in path.resolve().parents:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(network.state_dict(), path)
    first = next(each for each in network.parameters() if each.ndim >= 4)
    sliced = str((parser.get("inferer") or {}).get("_target_")).endswith("SliceInferer")
    axes = 3 if sliced else first.ndim - 2
    stated = Metadata.of(parser.load_config_file(str(copy / "configs/metadata.json"))).channels
    channels = stated or getattr(network, "in_channels", None) or first.shape[1]
    data = samples(root / f"data_{copy.name}", image_keys(parser), axes, channels)
    changed = {**small(parser), "dataset::data": data, "output_dir": str(root / "own")}
    plain = predictions(copy, changed)
    overlaid = predictions(
        copy, {**changed, "saliency::output_dir": str(root / "maps")}, str(OVERLAY)
    )
    if not plain or not same(plain, overlaid):
        return "the predictions differ"
    return compared(root / "maps", data, image_keys(parser)[0])


def compared(maps: Path, data: list[dict[str, Any]], key: str) -> str:
    """Whether each scan has its map."""
    found = sorted(maps.rglob("*_saliency.nii.gz"))
    scans = [s[key] if isinstance(s[key], str) else s[key][0] for s in data]
    if len(found) != len(scans):
        return f"expected {len(scans)} maps, got {len(found)}"
    for scan, path in zip(scans, found, strict=True):
        if scan.endswith(".nii.gz"):
            theirs, ours = nibabel.load(scan), nibabel.load(path)
            if theirs.shape != ours.shape or not np.allclose(theirs.affine, ours.affine, atol=1e-4):
                return f"{path.name} does not lie on {scan}"
        if not np.abs(nibabel.load(path).get_fdata()).max() > 0:
            return f"{path.name} is empty"
    return f"ok, {found[0].name}"


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
                said = f"failed: {last.splitlines()[0][:300]}"
        failed += not said.startswith("ok")
        sys.stdout.write(f"{bundle.name}: {said}\n")
        sys.stdout.flush()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
