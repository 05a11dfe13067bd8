"""What a target of the whole volume means within a window of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from medsal.outputs import main_output, per_sample, wide
from medsal.probe import Probe
from medsal.regions import Region
from medsal.targets import ClassScore, Difference, Predicted
from medsal.types import Scores, Target

Window: TypeAlias = tuple[slice, ...]
"""A window's place as MONAI gives it: a slice for the sample, the channels, and each axis."""


@dataclass(frozen=True)
class Frame:
    """How windows lie over an image.

    Attributes:
        size: the image's spatial size.
        window: the window's; where it is larger, MONAI fills the image up on both sides.
        slices: the axis that the network does not see, where it sees slices.
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    slices: int | None = None

    def cut(self, mask: Tensor, places: Sequence[Window]) -> Tensor:
        """The parts of a mask ``(1, *g)`` on the output's grid, ``(b, *w)``, as networks see it.

        Raises:
            ValueError: when the mask has another number of axes than the image.
        """
        if mask.ndim != len(self.size) + 1:
            raise ValueError(
                f"expected a mask of {len(self.size)} axes for each sample, got the shape "
                f"{tuple(mask.shape)}"
            )
        # A network may put out a coarser grid than it takes in.
        scales = [m / s for m, s in zip(mask.shape[1:], self.size, strict=True)]
        fill: list[int] = []
        for size, window, scale in zip(self.size, self.window, scales, strict=True):
            more = max(window - size, 0)
            fill = [round(more // 2 * scale), round((more - more // 2) * scale), *fill]
        whole = F.pad(mask[0], fill) if any(fill) else mask[0]
        parts = []
        for place in places:
            ends = zip(place[2:], scales, strict=True)
            parts.append(whole[tuple(slice(int(a.start * z), int(a.stop * z)) for a, z in ends)])
        cut = torch.stack(parts)
        return cut if self.slices is None else cut.squeeze(1 + self.slices)


@dataclass(frozen=True, eq=False)
class RegionPart:
    """A settled region within windows: the sum of a channel's logits over a part of its mask.

    Attributes:
        region: the region of the whole volume.
        mask: its part in each window, ``(b, *w)`` bool; it may be empty.
    """

    region: Region
    mask: Tensor

    def __call__(self, output: Any) -> Scores:
        logits = wide(main_output(output))
        if logits.shape[2:] != self.mask.shape[1:]:
            raise ValueError(
                f"expected windows of the output's grid {tuple(self.mask.shape[1:])} for the "
                f"region's mask, got {tuple(logits.shape[2:])}; choose a roi_size and overlap that "
                f"the network's stride divides"
            )
        values = {"softmax": lambda: logits.softmax(1), "sigmoid": logits.sigmoid}
        scores = values.get(self.region.activation, lambda: logits)()
        kept = per_sample(scores, self.region.channel, "class").where(
            self.mask.to(logits.device), 0
        )
        return kept.flatten(1).sum(1)


def part_of(target: Target, places: Sequence[Window], frame: Frame) -> tuple[Target, Tensor]:
    """A settled target of one sample within windows, and which of them it has a part in.

    Returns:
        The target for a batch of these windows, and ``(b,)`` bool.
    """
    if isinstance(target, Region) and target.mask is not None:
        mask = frame.cut(target.mask.detach().bool(), places)
        return RegionPart(target, mask), mask.flatten(1).any(1).cpu()
    if isinstance(target, Difference) and callable(target.a) and callable(target.b):
        (a, live), (b, other) = (part_of(each, places, frame) for each in (target.a, target.b))
        return replace(target, a=a, b=b), live | other
    return target, torch.ones(len(places), dtype=torch.bool)


def check_targets(probe: Probe) -> None:
    """Refuse what wraps a target for the volume: its windows could not be told from it.

    Raises:
        ValueError: for a target that another method made of the caller's.
    """
    known = (Region, Difference, ClassScore, Predicted)
    for each in probe.targets:
        inner = getattr(each, "target", None)
        if not isinstance(each, known) and isinstance(inner, known):
            raise ValueError(
                f"{type(each).__name__} changes what the volume's output means, which windows do "
                f"not know; put Windowed outside: Windowed(Mirrored(method), roi_size)"
            )
