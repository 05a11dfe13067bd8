"""Saliency as one step of a bundle's inference."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from monai.inferers import Inferer, SimpleInferer

from medsal.explain import explain
from medsal.export import save_case
from medsal.methods import Explainer, get_method
from medsal.result import SaliencyMap
from medsal.scan import read


class SaliencyInferer(Inferer):  # type: ignore[misc]
    """Any inferer, with maps beside its prediction.

    Called as every inferer is, it returns the wrapped one's prediction unchanged, bit for bit. The
    maps are written on the grid of each sample's file, or kept in `results`.

    Args:
        inferer: what makes the prediction; None = `SimpleInferer`.
        method: as in `medsal.explain`.
        target: as in `medsal.explain`.
        layer: as in `medsal.explain`.
        output_dir: where the maps are written; None = they are kept in `results`.
        on_error: ``"raise"``, or ``"warn"`` to let the prediction through without a map.
        **options: of the method, when it is given by name.

    Raises:
        LookupError: for a method that does not exist.
        TypeError: for an option that it does not have.
        ValueError: for another ``on_error``.
    """

    def __init__(
        self,
        inferer: Callable[..., Any] | None = None,
        method: str | Explainer = "gradcam",
        target: Any = None,
        layer: str | None = None,
        output_dir: str | Path | None = None,
        on_error: Literal["raise", "warn"] = "raise",
        **options: Any,
    ) -> None:
        super().__init__()
        if on_error not in ("raise", "warn"):
            raise ValueError(f"expected on_error of ['raise', 'warn'], got {on_error!r}")
        if isinstance(method, str):
            get_method(method, **options)
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.asked = {"target": target, "method": method, "layer": layer, **options}
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.on_error = on_error
        self.results: list[SaliencyMap] = []

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """The wrapped inferer's prediction for ``(n, c, *s)``; the maps are made beside it."""
        prediction = self.inferer(inputs, network, *args, **kwargs)
        try:
            self._explain(inputs, network, kwargs)
        except Exception as error:
            if self.on_error == "raise":
                raise
            warnings.warn(f"no saliency map was made: {error}", UserWarning, stacklevel=2)
        return prediction

    def _explain(
        self, inputs: torch.Tensor, network: Callable[..., Any], kwargs: dict[str, Any]
    ) -> None:
        if not isinstance(network, torch.nn.Module):
            raise TypeError(
                f"expected the network as a torch.nn.Module, got {type(network).__name__}"
            )
        found = explain(network, inputs, forward_kwargs=kwargs, **self.asked)
        if self.output_dir is None:
            self.results.append(found)
            return
        for i in range(len(found)):
            home = found[i].home()
            path = home.origins[0].path
            if path is None:
                raise ValueError(
                    "the image does not say which file it came from, so its map has no name; leave "
                    "out output_dir to keep it in results, or load it with LoadImaged"
                )
            save_case([home], read(path), self.output_dir)
