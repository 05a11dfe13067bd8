"""The weights of a bundle, where its config or MONAI's habit says that they are."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

WEIGHTS = ("models/model.pt", "models/model.pth")
_WRAPPED = ("state_dict", "model", "network", "net")


def load_weights(network: nn.Module, parser: ConfigParser, root: Path) -> None:
    """Put a bundle's weights into its network, read with ``weights_only=True``.

    Raises:
        FileNotFoundError: when there are none, or TorchScript alone.
        ValueError: when the file is none of weights, or they do not fit the network.
    """
    path = _path(parser, root)
    state = _unwrapped(_read(path), path)
    wrong = _differences(network, state)
    if wrong:
        raise ValueError(f"{path} does not fit {type(network).__name__}: {'; '.join(wrong)}")
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} does not fit {type(network).__name__}: {reason}") from error


def _path(parser: ConfigParser, root: Path) -> Path:
    places = [*loaded(parser), *(root / name for name in WEIGHTS)]
    for path in places:
        if path.is_file():
            return path
    if (root / "models/model.ts").is_file():
        raise FileNotFoundError(
            f"{root} has its weights as TorchScript alone (models/model.ts), whose layers and "
            f"activations can't be seen: expected {WEIGHTS[0]}, the state_dict that it was "
            f"exported from"
        )
    raise FileNotFoundError(f"{root} has no weights: expected {WEIGHTS[0]}")


def loaded(parser: ConfigParser) -> Iterator[Path]:
    """What the config's own CheckpointLoaders load."""
    for name, loader in _loaders("", parser.get()):
        if loader.get("_disabled_") is not True:
            try:
                path = parser.get_parsed_content(f"{name}::load_path")
            except Exception:
                # Paths that only a run can tell, such as the newest of a training.
                continue
            if isinstance(path, str | Path):
                yield Path(path)


def _loaders(name: str, config: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(config, Mapping):
        target = config.get("_target_")
        if isinstance(target, str) and target.endswith("CheckpointLoader"):
            yield name, config
        entries = list(config.items())
    else:
        entries = list(enumerate(config)) if isinstance(config, list) else []
    for key, value in entries:
        yield from _loaders(f"{name}::{key}" if name else str(key), value)


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"{path} does not load with weights_only=True; expected a state_dict (TorchScript, "
            f"whole modules and damaged files are not read): {str(error).splitlines()[0]}"
        ) from error


def _unwrapped(state: Any, path: Path) -> dict[str, Tensor]:
    """The state_dict itself: checkpoints hold it under a name, beside the optimizer's state."""
    while isinstance(state, Mapping):
        inner = next((key for key in _WRAPPED if isinstance(state.get(key), Mapping)), None)
        if inner is None:
            break
        state = state[inner]
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"{path} holds no state_dict, got {type(state).__name__}")
    # Networks that were trained on several GPUs at once.
    parallel = all(str(key).startswith("module.") for key in state)
    return {str(key).removeprefix("module.") if parallel else key: state[key] for key in state}


def _differences(network: nn.Module, state: Mapping[str, Any]) -> list[str]:
    own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    theirs = {key: tuple(getattr(value, "shape", ())) for key, value in state.items()}
    shapes = [
        f"{key} is {theirs[key]}, expected {own[key]}"
        for key in own
        if key in theirs and own[key] != theirs[key]
    ]
    groups = (
        ("", shapes),
        ("missing: ", [key for key in own if key not in theirs]),
        ("not in the network: ", [str(key) for key in theirs if key not in own]),
    )
    return [f"{words}{_few(names)}" for words, names in groups if names]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
