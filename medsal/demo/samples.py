"""Samples with known truth: heads with and without lesions on the bundle's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from monai.data import MetaTensor
from torch import Generator, Tensor
from torch.utils.data import Dataset

from medsal.demo import CLASSES, augment
from medsal.demo.heads import MM, SHAPE, Head, load_head
from medsal.demo.lesions import DIAMETERS, Lesion, draw, generator, paint


class LesionDataset(Dataset[dict[str, Any]]):
    """Heads with a lesion of each class in turn, made on the fly.

    Three samples in a row share anatomy, lesion and distractors and differ in the class alone,
    then in what the scanner did. Sample i is the same in every run of the same seed. A sample is
    a dictionary: `image` (1, x, y, z) MetaTensor at 2 mm, `label` int, `mask` (1, x, y, z) bool,
    the body of the lesion, empty for "none".
    """

    def __init__(
        self,
        count: int,
        heads: Sequence[str],
        seed: int = 0,
        mode: str = "augmented",
        window: Sequence[int] = SHAPE,
        easy: int = 0,
    ) -> None:
        """Prepare `count` samples.

        Args:
            count: number of samples; a multiple of the number of classes balances them.
            heads: names for `load_head`, used in turn.
            seed: of everything that is drawn.
            mode: "augmented", or "plain": the head as it is, turned and mirrored a little.
            window: voxels of a sample; smaller than a head, it lies around some point in the brain.
            easy: over the first so many samples, lesions shrink and fade to what `draw` gives.

        Raises:
            ValueError: `count` < 1, no heads, a window under 32 voxels, or an unknown mode.
        """
        if mode not in ("augmented", "plain"):
            raise ValueError(f"mode is 'augmented' or 'plain'; got {mode!r}")
        if count < 1 or not heads:
            raise ValueError(f"needs count >= 1 and a head; got {count} and {list(heads)}")
        if len(window) != 3 or min(window) < 32:
            raise ValueError(f"window is three sizes of at least 32 voxels; got {list(window)}")
        self.count, self.heads, self.seed, self.mode = count, tuple(heads), seed, mode
        self.window, self.easy = tuple(window), easy

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.count:
            raise IndexError(f"sample {index} of {self.count}")
        group, label = divmod(index, len(CLASSES))
        name = self.heads[group % len(self.heads)]
        g = generator(self.seed, index, 1)
        base, brain, lesion = _anatomy(self.seed, group, name, self.mode, self.window)
        ease = max(1 - index / self.easy, 0.0) if self.easy else 0.0
        lesion = replace(
            lesion,
            kind=CLASSES[label],
            diameter=lesion.diameter + ease * (max(DIAMETERS) - lesion.diameter),
            contrast=lesion.contrast + ease,
        )
        image, mask = paint(base, brain, lesion, MM)
        if self.mode == "augmented":
            if self.window == SHAPE:
                image = augment.crop_view(g, image, mask, MM)
            image = augment.scan(g, image, MM, thickest=min(6.5, 0.3 * lesion.diameter))
        else:
            image = augment.grain(g, image, 0.015)
        if CLASSES[label] == "none":
            mask = torch.zeros_like(mask)
        affine = torch.diag(torch.tensor([MM, MM, MM, 1.0], dtype=torch.float64))
        image = MetaTensor(image[None].contiguous(), affine=affine)
        return {"image": image, "label": label, "mask": mask[None]}


@lru_cache(maxsize=4)
def _anatomy(
    seed: int, group: int, name: str, mode: str, window: tuple[int, ...]
) -> tuple[Tensor, Tensor, Lesion]:
    """Return what three samples share: the head (median 1), its brain, the lesion to paint."""
    g = generator(seed, group)
    head = load_head(name)
    hard = mode == "augmented"
    at = _middle(g, head, window, 1.0 if hard else 0.3)
    # Beyond the volume all is 0 after moving: there it is far from the brain.
    volumes = torch.stack([head.image, head.brain, head.outside.clamp(max=60) - 60])
    image, brain, outside = augment.move(g, volumes, window, at, 1.0 if hard else 0.3)
    outside = outside + 60
    if hard:
        image = augment.dress(g, image, outside, name == "mni152", MM)
        image = augment.distract(g, augment.recolour(g, image), brain, MM)
    return image, brain, draw(g, brain, MM, CLASSES[-1])


def _middle(g: Generator, head: Head, window: tuple[int, ...], strength: float) -> Tensor:
    """Return the voxel of the head that comes into the middle of the window."""
    middle = (torch.tensor(head.image.shape) - 1) / 2
    if window == SHAPE:
        return middle + torch.randn(3, generator=g) * torch.tensor([2.0, 3.0, 4.0]) * strength
    places = torch.nonzero(head.brain > 0.5)
    at = places[int(torch.randint(len(places), (), generator=g))]
    # Towards the middle of the head, so that there is room for a lesion.
    return middle + 0.75 * (at - middle)


def in_order(batches: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Return the samples of each batch: `batches[k]` batches of `sizes[k]`, counted through."""
    plan, start = [], 0
    for size in (size for count, size in zip(batches, sizes, strict=True) for _ in range(count)):
        plan.append(list(range(start, start + size)))
        start += size
    return plan


def rate(step: int, batches: Sequence[int]) -> float:
    """Return the learning rate of a step relative to the highest.

    It falls within each stage of `batches` and rises at the next one, whose larger windows dilute
    the lesion in the global average, so that the last layer has to follow.
    """
    ends = ((1.0, 0.3), (0.6, 0.2), (0.4, 0.01))
    start = 0
    for count, (high, low) in zip(batches, ends, strict=True):
        if step < start + count:
            share = (step - start) / count
            return min(1.0, (step + 1) / 60) * (high + (low - high) * share)
        start += count
    return ends[-1][1]


__all__ = ["LesionDataset", "in_order", "rate"]
