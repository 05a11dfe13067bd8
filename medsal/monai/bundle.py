"""A bundle as what it takes to explain it: a network with its weights, and its transforms."""

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch import nn

from medsal.evaluate import Check, check
from medsal.explain import explain
from medsal.export.again import Recipe
from medsal.methods import Explainer, configured
from medsal.monai.code import notice_of_code, warn_of_code
from medsal.monai.described import described
from medsal.monai.heads import for_head, is_multilabel
from medsal.monai.inferred import over_windows
from medsal.monai.lost import loser
from medsal.monai.metadata import Metadata
from medsal.monai.weights import WEIGHTS, load_weights
from medsal.origin import Origin, Pipeline
from medsal.probe import Layer, Probe
from medsal.result import SaliencyMap
from medsal.scan import Scan
from medsal.targets import Predicted

CONFIGS = tuple(f"configs/inference{suffix}" for suffix in (".json", ".yaml", ".yml"))
NETWORKS = ("network_def", "network", "net")
TRANSFORMS = ("preprocessing", "pre_transforms")


@dataclass(frozen=True, eq=False)
class Bundle:
    """What of a MONAI bundle a map is made with.

    Attributes:
        path: the bundle's folder.
        name: the folder's name.
        version: as its metadata says; None if they do not.
        network: with the weights loaded, in evaluation mode, on ``device``.
        preprocessing: the bundle's own transforms, called with a dictionary.
        image_key: the key of the image in that dictionary.
        classes: the names of the output's channels, in their order; empty where the metadata have
            none.
        channels: how many channels the network takes; None where the metadata do not say.
        device: where the network is.
        size: the spatial size of the network's input; empty where the metadata state none.
        inferer: the bundle's own; where it slides a window, maps are made over the same windows.
        multilabel: whether the bundle's transforms put a sigmoid on each channel: then none of
            them is the background, and a class's region is where its own logit is positive.
        described: the transforms as the config has them, references filled in.
    """

    path: Path
    name: str
    version: str | None
    network: nn.Module
    preprocessing: Any
    image_key: str
    classes: tuple[str, ...]
    channels: int | None
    device: torch.device
    size: tuple[int, ...]
    inferer: Any = None
    multilabel: bool = False
    described: Any = None

    def blank(self) -> torch.Tensor:
        """An empty image of the size that the bundle's metadata state.

        Raises:
            ValueError: when they state none.
        """
        if not self.size or self.channels is None:
            raise ValueError(
                f"the metadata of bundle {self.name} state no image size in numbers; give a scan"
            )
        return torch.zeros(1, self.channels, *self.size, device=self.device)

    def prepare(self, scan: Scan) -> MetaTensor:
        """The network's input ``(1, c, *s)`` from a scan, by the bundle's own transforms.

        A NIfTI file or picture goes in as it is. Other formats are handed over as NIfTI with the
        same grid, since MONAI reads them only with further packages.

        Raises:
            ValueError: when the transforms fail on this scan, or lose the image's meta data.
        """
        if scan.kind in ("nifti", "picture"):
            return self._prepared(scan.path, scan)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{scan.name}.nii.gz"
            _hand_over(scan, path)
            return self._prepared(path, scan)

    def explain(
        self,
        scan: Scan,
        target: Any = None,
        method: str | Explainer = "gradcam",
        layer: str | None = None,
        image: MetaTensor | None = None,
        *,
        input: str | None = None,
        forward_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> SaliencyMap:
        """The map of a scan; it knows the file that came in, so that `home` finds its grid.

        Args:
            scan: what to explain.
            target: as in `medsal.explain`.
            method: as in `medsal.explain`.
            layer: as in `medsal.explain`.
            image: the scan as `prepare` gave it, where several maps are made of it.
            input: as in `medsal.explain`.
            forward_kwargs: as in `medsal.explain`.
            **options: of the method.
        """
        image = self.prepare(scan) if image is None else image
        chosen = over_windows(self.inferer, configured(method, layer, options), image.shape[2:])
        result = explain(
            self.network,
            image,
            for_head(target, self.multilabel),
            chosen,
            input=input,
            forward_kwargs=forward_kwargs,
        )
        return self._of(scan, result)

    def check(
        self,
        scan: Scan,
        method: str | Explainer = "gradcam",
        target: Any = None,
        layer: str | None = None,
        image: MetaTensor | None = None,
        progress: Callable[[], None] | None = None,
        **options: Any,
    ) -> Check:
        """What a method's map of a scan is worth; see `medsal.evaluate.check`.

        Args:
            scan: what to explain.
            method: as in `medsal.explain`.
            target: as in `medsal.explain`; one.
            layer: as in `medsal.explain`.
            image: the scan as `prepare` gave it, where several methods are checked.
            progress: called as the check goes on.
            **options: of the method.
        """
        image = self.prepare(scan) if image is None else image
        chosen = over_windows(self.inferer, configured(method, layer, options), image.shape[2:])
        target = for_head(target, self.multilabel)
        found = check(self.network, image, chosen, target, classes=self.classes, progress=progress)
        return dataclasses.replace(found, result=self._of(scan, found.result))

    def explain_again(self, recipe: Recipe, scan: Scan) -> SaliencyMap:
        """The map of a sidecar, on its grid: `medsal.export.read_recipe`.

        Raises:
            ValueError: when the scan, the weights or the transforms are others than they were, or
                the sidecar can't hold what the map was made with.
        """
        recipe.check_scan(scan.path)
        recipe.check_pipeline(self.pipeline)
        target, method = recipe.target, recipe.method
        forward = recipe.forward(self.device)
        recipe.check_model(Probe(self.network, target).card())
        return recipe.placed(self.explain(scan, target, method, **forward))

    def _of(self, scan: Scan, result: SaliencyMap) -> SaliencyMap:
        """The result, which knows the file that came in, and this bundle."""
        affine = torch.as_tensor(scan.affine, dtype=torch.float64)
        origins = (Origin(str(scan.path), affine, scan.shape),)
        return dataclasses.replace(result, origins=origins, pipeline=self.pipeline)

    @property
    def pipeline(self) -> Pipeline:
        """What a map's provenance says of the bundle."""
        return Pipeline(self.name, self.version, self.described)

    def layers(self, image: torch.Tensor) -> list[Layer]:
        """The layers that a forward pass of this image meets."""
        return Probe(self.network, Predicted()).layers(image)

    def _prepared(self, path: Path, scan: Scan) -> MetaTensor:
        try:
            image = self.preprocessing({self.image_key: str(path)})[self.image_key]
        except Exception as error:
            reason = str(error.__cause__ or error).strip().splitlines()[-1:]
            raise ValueError(
                f"{scan.path.name}: the transforms of bundle {self.name} fail on it: "
                f"{(reason or [type(error).__name__])[0]}"
            ) from error
        if not isinstance(image, MetaTensor):
            data = {self.image_key: str(path)}
            who = loser(self.preprocessing, data, self.image_key) or "one that loads without it"
            raise ValueError(
                f"the transforms of bundle {self.name} lose the scan's place: {who} gives a "
                f"{type(image).__name__}; leave it out, or keep the place with track_meta=True"
            )
        batch: MetaTensor = image[None].to(self.device, torch.float32)
        return batch


def load_bundle(path: str | Path, device: str | None = None, *, trust: bool = False) -> Bundle:
    """Load a MONAI bundle's network, weights, transforms, inferer and class names.

    A bundle's config may run code (values that begin with ``$``): load only those that you trust.
    A warning says so before it runs, for bundles that do not come with medsal. Weights are read
    with ``weights_only=True``.

    Args:
        path: the bundle's folder, with ``configs/inference.json`` (or ``.yaml``) and
            ``models/model.pt``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``; None = a GPU where there is one.
        trust: True = the bundle may run its code without a warning.

    Raises:
        FileNotFoundError: when the folder is no bundle, or has no weights.
        ValueError: when its config lacks a network or transforms, or the weights do not fit.
    """
    root = Path(path)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    parser = _config(root)
    if not trust:
        warn_of_code(parser.get(), root)
    network = _parsed(parser, root, *NETWORKS)
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"{root}: expected a network as 'network_def', got {type(network).__name__}"
        )
    load_weights(network, parser, root)
    metadata = Metadata.of(parser.get("_meta_") or {})
    return Bundle(
        path=root,
        name=root.resolve().name,
        version=metadata.version,
        network=network.to(chosen).eval(),
        preprocessing=_parsed(parser, root, *TRANSFORMS),
        image_key=str(parser.get("image_key") or "image"),
        classes=metadata.classes,
        channels=metadata.channels,
        device=chosen,
        size=metadata.size,
        inferer=_parsed(parser, root, "inferer") if "inferer" in parser.get() else None,
        multilabel=is_multilabel(parser.get()),
        described=described(parser, *TRANSFORMS),
    )


def code_notice(path: str | Path) -> str | None:
    """What to tell before `load_bundle` runs code of this bundle; None where there is none.

    Raises:
        FileNotFoundError: when the folder is no bundle.
    """
    return notice_of_code(_config(Path(path)).get(), Path(path))


def _config(root: Path) -> ConfigParser:
    found = [root / name for name in CONFIGS if (root / name).is_file()]
    if not found:
        raise FileNotFoundError(
            f"{root} is no MONAI bundle: expected a folder with {CONFIGS[0]} (or .yaml) and "
            f"{WEIGHTS[0]}"
        )
    parser = ConfigParser()
    parser.read_config(str(found[0]))
    if (root / "configs/metadata.json").is_file():
        parser.read_meta(str(root / "configs/metadata.json"))
    parser["bundle_root"] = str(root)
    # Where a bundle keeps code of its own, its config imports it from the bundle's folder.
    if (root / "scripts").is_dir() and str(root.resolve()) not in sys.path:
        sys.path.insert(0, str(root.resolve()))
    return parser


def _parsed(parser: ConfigParser, root: Path, *names: str) -> Any:
    """The first of these that the config has."""
    name = next((name for name in names if parser.get().get(name) is not None), None)
    if name is None:
        raise ValueError(
            f"{root}: expected {names[0]!r} in the bundle's config, got {sorted(parser.get())}"
        )
    try:
        return parser.get_parsed_content(name)
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()[-1:]
        raise ValueError(
            f"{root}: {name!r} of the bundle's config fails: "
            f"{(reason or [type(error).__name__])[0]}"
        ) from error


def _hand_over(scan: Scan, path: Path) -> None:
    """The scan as a NIfTI file for MONAI; a sheared grid stays so, which nibabel reads right."""
    import nibabel

    last = (*range(1, scan.data.ndim), 0)
    voxels = scan.data[0] if len(scan.data) == 1 else scan.data.transpose(last)
    # The affine at once: it sets the voxel sizes too, which MONAI's reader asks for.
    file = nibabel.Nifti1Image(voxels, scan.affine)
    file.set_sform(scan.affine, 1)
    nibabel.save(file, path)
