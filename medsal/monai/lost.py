"""Who lost a scan's place: the transform, or the cache, after which an image is a plain tensor."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import CommonKeys


def loser(transforms: Any, data: Any, key: str = CommonKeys.IMAGE) -> str | None:
    """The transform that makes a plain tensor or array of a MetaTensor, in words.

    Args:
        transforms: a `Compose`, or one transform.
        data: what goes in: a dictionary with the image's file, or the file.
        key: of the image in the dictionary.

    Returns:
        None where none of them does.
    """
    tracked = False
    for i, transform in enumerate(_steps(transforms), 1):
        data = transform(data)
        image = data[key] if isinstance(data, Mapping) else data
        if tracked and not isinstance(image, MetaTensor):
            return f"{type(transform).__name__}, step {i} of the transforms,"
        tracked = isinstance(image, MetaTensor)
    return None


def _steps(transforms: Any) -> Iterable[Any]:
    if not isinstance(transforms, Compose):
        return [transforms]
    return [step for each in transforms.transforms for step in _steps(each)]


def loser_of_caller() -> str | None:
    """Who lost the place of the batch that an engine of MONAI is working on, in words.

    For errors alone: the engine that calls is asked for its data, and its first sample goes through
    the transforms once more. None where there is no engine, or its data can't be asked.
    """
    loader = _loader()
    dataset = getattr(loader, "dataset", None)
    if dataset is None or not getattr(dataset, "data", None):
        return None
    try:
        found = loser(dataset.transform, dataset.data[0])
    except Exception:
        # What is to be told is that the place is lost; why not may stay open.
        return None
    return found or f"the cache of {type(dataset).__name__}"


def _loader() -> Any:
    frame = inspect.currentframe()
    while frame is not None:
        engine = frame.f_locals.get("engine")
        if engine is not None and hasattr(engine, "data_loader"):
            return engine.data_loader
        frame = frame.f_back
    return None
