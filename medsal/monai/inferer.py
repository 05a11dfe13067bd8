"""Saliency as one step of a bundle's inference."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from torch import nn

from medsal.explain import explain
from medsal.export import OUTPUTS, checked_outputs, save_case
from medsal.export.names import description, label
from medsal.methods import Explainer, configured
from medsal.monai import patches
from medsal.monai.folders import Folders
from medsal.monai.heads import for_head
from medsal.monai.inferred import as_inferred
from medsal.monai.lost import loser_of_caller
from medsal.monai.present import explained
from medsal.result import SaliencyMap
from medsal.scan import read
from medsal.space import home
from medsal.space.homeward import LOST

CAMS = {"cam": "cam", "gradcam": "gradcam", "gradcampp": "gradcam++"}
"""What MONAI's own `SaliencyInferer` calls its methods, in lower case."""


class SaliencyInferer(Inferer):  # type: ignore[misc]
    """Any inferer, with maps beside its prediction.

    Called as every inferer is, it returns the wrapped one's prediction unchanged, bit for bit. The
    maps are written on the grid of each sample's file, or kept in `results`. Where the wrapped
    inferer slides a window, the map is made over the same windows (`Windowed`).

    A segmentation without what was asked for (a scan without a tumour) has no map. That is no
    failure: a warning says so, and the others of the batch and of a list of targets are made.

    Each scan has a folder of its own in ``output_dir``, named as the scan; scans of one name from
    different folders stay apart.

    Args:
        inferer: what makes the prediction; None = `SimpleInferer`.
        method: as in `medsal.explain`.
        target: as in `medsal.explain`; a class also by its name in ``classes``.
        layer: as in `medsal.explain`.
        output_dir: where the maps are written; None = they are kept in `results`, with the images.
        on_error: ``"raise"``, or ``"warn"`` to let the prediction through without a map.
        classes: the names of the model's classes, for targets and file names.
        multilabel: True = the channels of a segmentation don't compete (a sigmoid on each): none
            is the background, and a class's region is where its own logit is positive.
        outputs: which files are written, of `medsal.export.OUTPUTS`; None = all.
        cam_name: MONAI's own name of a method ("CAM", "GradCAM", "GradCAMpp"), as its
            `SaliencyInferer` takes it; instead of ``method``.
        target_layers: MONAI's own name of ``layer``.
        class_idx: MONAI's own name of ``target``.
        **options: of the method, when it is given by name.

    Raises:
        LookupError: for a method, an output or a class's name that does not exist.
        TypeError: for an option that it does not have, or an inferer that can't be called.
        ValueError: for another ``on_error``, or an argument that is given by both of its names.
    """

    def __init__(
        self,
        inferer: Callable[..., Any] | None = None,
        method: str | Explainer = "gradcam",
        target: Any = None,
        layer: str | Sequence[str] | None = None,
        output_dir: str | Path | None = None,
        on_error: str = "raise",
        classes: Sequence[str] = (),
        outputs: Sequence[str] | None = None,
        multilabel: bool = False,
        cam_name: str | None = None,
        target_layers: str | None = None,
        class_idx: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if on_error not in ("raise", "warn"):
            raise ValueError(f"expected on_error of ['raise', 'warn'], got {on_error!r}")
        if inferer is not None and not callable(inferer):
            raise TypeError(f"expected an inferer, called (inputs, network), got {inferer!r}")
        method = _method(method, cam_name)
        layer = _either("layer", layer, "target_layers", target_layers)
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.method = configured(method, layer, options)
        asked = _either("target", target, "class_idx", class_idx)
        self.target = for_head(_by_name(asked, classes), multilabel)
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.on_error = on_error
        self.classes = tuple(classes)
        self.outputs = checked_outputs(OUTPUTS if outputs is None else outputs)
        self.results: list[SaliencyMap] = []
        self._folders = None if self.output_dir is None else Folders(self.output_dir)

    def __call__(
        self,
        inputs: torch.Tensor | Sequence[torch.Tensor],
        network: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The wrapped inferer's prediction; the maps are made beside it.

        Args:
            inputs: ``(n, c, *s)``, or a list of ``(c, *s)`` for a detector.
            network: what the inferer asks.
            *args: further arguments, for the inferer.
            **kwargs: the same, by name.
        """
        prediction = self.inferer(inputs, network, *args, **kwargs)
        groups = self._tried(lambda: self._explain(inputs, network, prediction, args, kwargs)) or []
        if self._folders is None:
            self.results.extend(each for group in groups for each in group)
            return prediction
        for group in groups:
            for i in range(len(group[0])):
                self._tried(partial(self._write, [each[i] for each in group], self._folders))
        return prediction

    def _tried(self, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except Exception as error:
            if self.on_error == "raise":
                raise
            warnings.warn(f"no saliency map was made: {error}", UserWarning, stacklevel=3)
            return None

    def _explain(
        self,
        inputs: torch.Tensor | Sequence[torch.Tensor],
        network: Callable[..., Any],
        prediction: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> list[list[SaliencyMap]]:
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"expected the network as a torch.nn.Module, got {type(network).__name__}"
            )
        if self._folders is not None:
            _check_place(inputs)
        named = {**_named(network, args), **kwargs}
        if isinstance(self.inferer, SlidingWindowInferer):
            # These are for the inferer, the network does not see them.
            named = {k: v for k, v in named.items() if k not in _WINDOWING}

        def ask(image: torch.Tensor, target: Any, output: Any) -> SaliencyMap:
            found = as_inferred(
                self.inferer,
                self.method,
                image,
                output,
                lambda method: explain(network, image, target, method, forward_kwargs=named),
            )
            return patches.named(found, image)

        if isinstance(inputs, torch.Tensor):
            return explained(ask, inputs, self.target, prediction)
        # Detectors take a list of images of different sizes, and give a list.
        pairs = zip(inputs, prediction, strict=True)
        return [g for x, y in pairs for g in explained(ask, x[None], self.target, y)]

    def _write(self, found: Sequence[SaliencyMap], folders: Folders) -> None:
        where = found[0].origins[0].path
        if where is None:
            raise ValueError(
                "the image does not say which file it came from, so its map has no name; leave "
                "out output_dir to keep it in results, or load it with LoadImaged"
            )
        path = Path(where)
        scan = read(path) if path.exists() else None
        # The image is the same for every map: its place is checked once.
        homes = [home(each, check=i == 0, scan=scan) for i, each in enumerate(found)]
        if scan is not None:
            folder = folders.of(path, scan.name)
            save_case(homes, scan, folder, classes=self.classes, outputs=self.outputs)
            return
        # The grid that the image remembers is all that is left of the scan.
        stem = path.name.removesuffix(".gz").rsplit(".", 1)[0] or "scan"
        for each in homes:
            one = f"_label-{label(each.target, self.classes)}" if len(each.targets) == 1 else ""
            name = f"{stem}{one}_desc-{description(each.method)}_saliency.nii.gz"
            each.save(folders.of(path, stem) / name, classes=self.classes)


_WINDOWING = ("device", "buffer_steps", "buffer_dim")


def _check_place(inputs: torch.Tensor | Sequence[torch.Tensor]) -> None:
    """Before the time is spent on a map that has no place."""
    images = [inputs] if isinstance(inputs, torch.Tensor) else inputs
    plain = next((each for each in images if not isinstance(each, MetaTensor)), None)
    who = None if plain is None else loser_of_caller()
    if who is not None:
        raise ValueError(
            f"the image did not bring its place along: {who} makes a plain tensor of the "
            f"MetaTensor; leave it out, put it behind the inference, or give it track_meta=True"
        )
    if plain is not None:
        raise ValueError(LOST)


def _method(method: str | Explainer, cam_name: str | None) -> str | Explainer:
    if cam_name is None:
        return method
    if method != "gradcam":
        raise ValueError(f"expected method or cam_name, got both: {method!r} and {cam_name!r}")
    if cam_name.lower() not in CAMS:
        raise ValueError(
            f"expected a cam_name of ['CAM', 'GradCAM', 'GradCAMpp'], got {cam_name!r}; "
            f"medsal's own methods are given as method"
        )
    return CAMS[cam_name.lower()]


def _either(name: str, value: Any, theirs: str, other: Any) -> Any:
    if value is not None and other is not None:
        raise ValueError(f"expected {name} or {theirs}, got both: {value!r} and {other!r}")
    return other if value is None else value


def _by_name(target: Any, classes: Sequence[str]) -> Any:
    if isinstance(target, list | tuple):
        return [_by_name(each, classes) for each in target]
    if not isinstance(target, str):
        return target
    lower = [name.lower() for name in classes]
    if target.lower() not in lower:
        raise LookupError(f"expected a class of {list(classes) or 'numbers'}, got {target!r}")
    return lower.index(target.lower())


def _named(network: nn.Module, args: Sequence[Any]) -> dict[str, Any]:
    """Further positional arguments of the network by their names.

    Raises:
        ValueError: when the network does not name as many.
    """
    if not args:
        return {}
    parameters = inspect.signature(network.forward).parameters.values()
    names = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD][1:]
    if len(names) < len(args):
        raise ValueError(
            f"expected at most {len(names)} further positional arguments, as "
            f"{type(network).__name__}.forward names them, got {len(args)}; give them by name"
        )
    return dict(zip(names, args, strict=False))
