"""The same map again, from its sidecar."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from medsal.explain import explain
from medsal.export.sidecar import circumstances, file_hash, map_hash
from medsal.export.spelling import read_spelled
from medsal.export.volume import VOLUMES
from medsal.methods import Explainer
from medsal.origin import Pipeline
from medsal.probe import ModelCard
from medsal.result import SaliencyMap
from medsal.scan import read
from medsal.types import Target

# Of the largest magnitude: what another order of sums changes in float32.
ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a sidecar says of how its map was made.

    Attributes:
        said: the sidecar.
        path: its file.
    """

    said: Mapping[str, Any]
    path: Path

    @property
    def method(self) -> Explainer:
        """The method with all its parameters, and with the layer that it chose.

        Raises:
            ValueError: when it can't be spelled in a sidecar.
        """
        layer = self.said["Layer"]
        names = None if layer is None else layer["Name"]
        chosen = names if names is None or len(names) > 1 else names[0]
        found: Explainer = read_spelled(self.said["Method"], chosen)
        return found

    @property
    def target(self) -> Target:
        """The target, with all that it chose by itself.

        Raises:
            ValueError: when it can't be spelled in a sidecar.
        """
        found: Target = read_spelled(self.said["Target"])
        return found

    def forward(self, device: torch.device) -> dict[str, Any]:
        """Which parameter takes the image, and the other arguments, as `medsal.explain` has them.

        Args:
            device: where the arguments' tensors are to be.

        Raises:
            ValueError: when an argument can't be spelled in a sidecar.
        """
        said = self.said.get("Forward") or {"Image": None, "Arguments": {}}
        given = {}
        for name, each in said["Arguments"].items():
            try:
                given[name] = read_spelled(each)
            except ValueError as error:
                raise ValueError(f"{self.path.name}: argument {name!r}: {error}") from None
        given = tree_map_only(Tensor, lambda tensor: tensor.to(device), given)
        return {"input": said["Image"], "forward_kwargs": given}

    def check_scan(self, path: str | Path) -> None:
        """Refuse another file than the map was made from.

        Raises:
            ValueError: when its content is another.
        """
        expected, got = self.said["Input"]["SHA256"], file_hash(Path(path))
        if expected != got:
            raise ValueError(
                f"{Path(path).name} is not the scan of {self.path.name}: expected "
                f"{self.said['Input']['File']} with SHA-256 {_brief(expected)}, got {_brief(got)}"
            )

    def check_model(self, card: ModelCard) -> None:
        """Refuse another model than the map explains.

        Raises:
            ValueError: when its class or weights are others.
        """
        expected = self.said["Model"]
        if expected["sha256"] != card.sha256:
            raise ValueError(
                f"the network is not that of {self.path.name}: expected {expected['name']} with "
                f"weights of SHA-256 {_brief(expected['sha256'])}, got {card.name} with "
                f"{_brief(card.sha256)}"
            )

    def check_pipeline(self, pipeline: Pipeline) -> None:
        """Refuse a bundle that prepares scans otherwise.

        Raises:
            ValueError: when its transforms are others.
        """
        expected = self.said.get("Bundle")
        if expected is not None and expected["Preprocessing"] != pipeline.preprocessing:
            raise ValueError(
                f"bundle {pipeline.name} prepares scans otherwise than when {self.path.name} was "
                f"made: expected {_brief(expected['Preprocessing'], 200)}, got "
                f"{_brief(pipeline.preprocessing, 200)}"
            )

    def explain(self, model: nn.Module, image: Tensor) -> SaliencyMap:
        """The map of a model at an image as the network takes it, on the grid of the sidecar.

        Raises:
            ValueError: when the image's file or the model are others, or the sidecar can't hold
                what the map was made with.
        """
        found = explain(model, image, self.target, self.method, **self.forward(image.device))
        self.check_model(found.model)
        if found.origins[0].path is not None:
            self.check_scan(found.origins[0].path)
        return self.placed(found)

    def placed(self, result: SaliencyMap) -> SaliencyMap:
        """A result on the grid that the sidecar's map is on."""
        return result.home() if self.said["Grid"]["Of"] == "scan" else result

    def compared(self, result: SaliencyMap) -> "Comparison":
        """The map made again beside the one of the sidecar."""
        voxels = result.data[0, 0].cpu().numpy()
        identical = map_hash(voxels) == self.said["MapSHA256"]
        then, now = _flat(self.said), _flat(circumstances(result))
        changed = {name: (then.get(name), now[name]) for name in now if then.get(name) != now[name]}
        return Comparison(identical, 0.0 if identical else self._difference(voxels), changed)

    def _difference(self, voxels: np.ndarray) -> float | None:
        stem = self.path.name.removesuffix(".json")
        for suffix in VOLUMES:
            file = self.path.with_name(f"{stem}{suffix}")
            if file.exists():
                there = read(file).data[0].reshape(voxels.shape)
                largest = float(np.abs(there).max()) or 1.0
                return float(np.abs(there - voxels).max()) / largest
        return None


@dataclass(frozen=True)
class Comparison:
    """A map that was made again, beside the one before.

    Attributes:
        identical: to the bit.
        difference: the largest one, as a share of the map's largest magnitude; None where the map
            before is not beside its sidecar.
        changed: what is otherwise now: name -> then, now.
    """

    identical: bool
    difference: float | None
    changed: Mapping[str, tuple[Any, Any]]

    def __str__(self) -> str:
        if self.identical:
            return "identical to the map before, bit for bit"
        said = "not identical to the map before"
        if self.difference is not None:
            same = "the same to rounding: " if self.difference < ROUNDING else ""
            said = f"{said}; {same}it differs by up to {self.difference:.2g} of its maximum"
        others = [f"{name} {then} is now {now}" for name, (then, now) in self.changed.items()]
        return "; ".join([said, *others])


def _flat(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "device": said.get("Device"),
        "threads": said.get("Threads"),
        **said.get("Versions", {}),
    }


def read_recipe(path: str | Path) -> Recipe:
    """The recipe in a sidecar.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is no sidecar of a map.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from None
    needed = ("Method", "Target", "Layer", "Model", "Input", "Grid", "MapSHA256", "Versions")
    lacking = [key for key in needed if not isinstance(said, dict) or key not in said]
    if lacking:
        raise ValueError(f"{path.name} is no sidecar of a map: it has no {', '.join(lacking)}")
    return Recipe(said, path)


def _brief(value: Any, length: int = 12) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= length else f"{text[:length]}..."
