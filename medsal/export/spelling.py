"""Methods, targets and arguments as JSON, and back: the class, and each of its parameters.

What has no spelling, such as a function of the caller's own, is described, and refused on the way
back.
"""

import base64
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsal.methods import Method, options_of
from medsal.regions import Region
from medsal.targets import ClassScore, Difference, Positive, Predicted

TARGETS = (ClassScore, Difference, Positive, Predicted, Region)
# Numbers that are kept themselves; masks are kept whole, they compress.
KEPT = 4096


def spelled(value: Any) -> Any:
    """A method, a target, a parameter or an argument, as JSON holds it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"Float": repr(value)}
    if isinstance(value, tuple | list):
        return [spelled(each) for each in value]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {"Mapping": {name: spelled(each) for name, each in value.items()}}
    if isinstance(value, Tensor):
        return _tensor(value.detach().cpu().as_subclass(Tensor))
    if isinstance(value, (Method, *TARGETS)):
        options = options_of(type(value))
        return {
            "Class": type(value).__name__,
            "Parameters": {name: spelled(getattr(value, name)) for name in options},
        }
    kind = value if hasattr(value, "__qualname__") else type(value)
    return {"Unspelled": f"{kind.__module__}.{kind.__qualname__}"}


def read_spelled(value: Any, layer: Any = None) -> Any:
    """What `spelled` wrote.

    Args:
        value: as JSON gives it.
        layer: for methods that were to choose one: the one that they chose.

    Raises:
        ValueError: for what has no spelling, or a class that there is not.
    """
    if isinstance(value, list):
        return tuple(read_spelled(each, layer) for each in value)
    if not isinstance(value, Mapping):
        return value
    if "Float" in value:
        return float(value["Float"])
    if "Tensor" in value:
        return _read_tensor(value["Tensor"])
    if "Mapping" in value:
        return {name: read_spelled(each, layer) for name, each in value["Mapping"].items()}
    if "Class" not in value:
        raise ValueError(
            f"a sidecar can't hold {value.get('Unspelled', value)}, so its map is not made again "
            f"from it alone; make it in Python, as it was made"
        )
    given = {name: read_spelled(each, layer) for name, each in value["Parameters"].items()}
    if layer is not None and "layer" in given and given["layer"] is None:
        given["layer"] = layer
    return _class(value["Class"])(**given)


def _class(name: str) -> Any:
    known: list[type] = [*_subclasses(Method), *TARGETS]
    classes = {each.__name__: each for each in known}
    if name not in classes:
        raise ValueError(
            f"expected a method or target that is there, got {name}; import the module that "
            f"defines it first"
        )
    return classes[name]


def _subclasses(of: type) -> Iterator[type]:
    below: list[type] = of.__subclasses__()
    for each in below:
        yield each
        yield from _subclasses(each)


def _tensor(value: Tensor) -> dict[str, Any]:
    # NumPy has no bfloat16.
    data = value.contiguous().flatten().view(torch.uint8).numpy()
    said: dict[str, Any] = {
        "DType": str(value.dtype).removeprefix("torch."),
        "Shape": list(value.shape),
        "SHA256": hashlib.sha256(data.tobytes()).hexdigest(),
    }
    if value.dtype == torch.bool or value.numel() <= KEPT:
        packed = np.packbits(data) if value.dtype == torch.bool else data
        said["Data"] = base64.b64encode(zlib.compress(packed.tobytes(), 9)).decode("ascii")
    return {"Tensor": said}


def _read_tensor(said: Mapping[str, Any]) -> Tensor:
    shape, kind = tuple(said["Shape"]), said["DType"]
    if "Data" not in said:
        raise ValueError(
            f"the sidecar names a tensor of the shape {shape}, {kind}, SHA-256 "
            f"{said['SHA256'][:12]}..., which is too large to be in it; make the map in Python, "
            f"with that tensor"
        )
    data = zlib.decompress(base64.b64decode(said["Data"]))
    if kind == "bool":
        count = int(np.prod(shape))
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count)
        return torch.from_numpy(bits.astype(bool).reshape(shape))
    dtype = getattr(torch, kind)
    # There is no view of an empty buffer.
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.reshape(shape)
