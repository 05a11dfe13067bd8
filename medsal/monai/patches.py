"""Patches of whole slides: where each lies is all that tells it from the others."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from medsal.origin import Origin
from medsal.result import SaliencyMap


def named(result: SaliencyMap, image: torch.Tensor) -> SaliencyMap:
    """Name samples that are patches of a slide by their place, as ``slide_x-248_y-152.tif``.

    MONAI's datasets of whole slides tell the slide, the place of a patch on it [pixels of the
    full resolution] and the level that it was read from. The map lies on the patch's own pixels.
    """
    meta: Any = getattr(image, "meta", None) or {}
    slides, places = meta.get("path"), meta.get("location")
    if slides is None or places is None or any(each.path for each in result.origins):
        return result
    slides = [slides] if isinstance(slides, str | Path) else slides
    corners = torch.as_tensor(places).reshape(-1, 2).tolist()
    levels = torch.as_tensor(meta.get("level", 0)).reshape(-1).expand(len(corners)).tolist()
    origins = tuple(
        Origin(_name(Path(slide), y, x, level), torch.eye(4).double(), result.data.shape[2:])
        for slide, (y, x), level in zip(slides, corners, levels, strict=True)
    )
    return dataclasses.replace(result, origins=origins)


def _name(slide: Path, y: int, x: int, level: int) -> str:
    coarse = f"_level-{level}" if level else ""
    return str(slide.with_name(f"{slide.stem}_x-{x}_y-{y}{coarse}{slide.suffix}"))
