"""Saliency as one step of a bundle's inference."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from torch import nn

from medsal.explain import explain
from medsal.export import OUTPUTS, checked_outputs, save_case
from medsal.export.names import description
from medsal.methods import Explainer, configured
from medsal.monai.folders import Folders
from medsal.monai.windowed import Windowed, as_inferred
from medsal.result import SaliencyMap
from medsal.scan import read

CAMS = {"cam": "cam", "gradcam": "gradcam", "gradcampp": "gradcam++"}
"""What MONAI's own `SaliencyInferer` calls its methods, in lower case."""


class SaliencyInferer(Inferer):  # type: ignore[misc]
    """Any inferer, with maps beside its prediction.

    Called as every inferer is, it returns the wrapped one's prediction unchanged, bit for bit. The
    maps are written on the grid of each sample's file, or kept in `results`. Where the wrapped
    inferer slides a window, the map is made over the same windows (`Windowed`).

    Each scan has a folder of its own in ``output_dir``, named as the scan; scans of one name from
    different folders stay apart.

    Args:
        inferer: what makes the prediction; None = `SimpleInferer`.
        method: as in `medsal.explain`.
        target: as in `medsal.explain`.
        layer: as in `medsal.explain`.
        output_dir: where the maps are written; None = they are kept in `results`, with the images.
        on_error: ``"raise"``, or ``"warn"`` to let the prediction through without a map.
        classes: the names of the model's classes, for file names.
        outputs: which files are written, of `medsal.export.OUTPUTS`; None = all.
        cam_name: MONAI's own name of a method ("CAM", "GradCAM", "GradCAMpp"), as its
            `SaliencyInferer` takes it; instead of ``method``.
        target_layers: MONAI's own name of ``layer``.
        class_idx: MONAI's own name of ``target``.
        **options: of the method, when it is given by name.

    Raises:
        LookupError: for a method or an output that does not exist.
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
        if isinstance(self.inferer, SlidingWindowInferer):
            Windowed.like(self.inferer, self.method)
        self.target = _either("target", target, "class_idx", class_idx)
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.on_error = on_error
        self.classes = tuple(classes)
        self.outputs = checked_outputs(OUTPUTS if outputs is None else outputs)
        self.results: list[SaliencyMap] = []
        self._folders = None if self.output_dir is None else Folders(self.output_dir)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """The wrapped inferer's prediction for ``(n, c, *s)``; the maps are made beside it."""
        prediction = self.inferer(inputs, network, *args, **kwargs)
        found = self._tried(lambda: self._explain(inputs, network, prediction, args, kwargs))
        folders = self._folders
        if found is not None and folders is None:
            self.results.append(found)
        elif found is not None and folders is not None:
            for i in range(len(found)):
                self._tried(partial(self._write, found[i], folders))
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
        inputs: torch.Tensor,
        network: Callable[..., Any],
        prediction: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> SaliencyMap:
        if not isinstance(network, nn.Module):
            raise TypeError(
                f"expected the network as a torch.nn.Module, got {type(network).__name__}"
            )
        named = {**_named(network, args), **kwargs}
        if isinstance(self.inferer, SlidingWindowInferer):
            # These are for the inferer, the network does not see them.
            named = {k: v for k, v in named.items() if k not in _WINDOWING}
        return as_inferred(
            self.inferer,
            self.method,
            inputs,
            prediction,
            lambda method: explain(network, inputs, self.target, method, forward_kwargs=named),
        )

    def _write(self, found: SaliencyMap, folders: Folders) -> None:
        home = found.home()
        where = home.origins[0].path
        if where is None:
            raise ValueError(
                "the image does not say which file it came from, so its map has no name; leave "
                "out output_dir to keep it in results, or load it with LoadImaged"
            )
        path = Path(where)
        if path.exists():
            scan = read(path)
            folder = folders.of(path, scan.name)
            save_case([home], scan, folder, classes=self.classes, outputs=self.outputs)
            return
        # The grid that the image remembers is all that is left of the scan.
        stem = path.name.removesuffix(".gz").rsplit(".", 1)[0] or "scan"
        name = f"{stem}_desc-{description(home.method)}_saliency.nii.gz"
        home.save(folders.of(path, stem) / name, classes=self.classes)


_WINDOWING = ("device", "buffer_steps", "buffer_dim")


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
