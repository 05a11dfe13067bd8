"""Regions of a segmentation: over which voxels a channel's logits are summed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from medsal.outputs import (
    ACTIVATIONS,
    Activation,
    Index,
    as_index,
    check_activation,
    main_output,
    per_sample,
    wide,
    won_by,
)
from medsal.types import Scores

Voxel: TypeAlias = Sequence[int] | Sequence[Sequence[int]] | None
"""A voxel of the output's grid, or one per sample."""
Component: TypeAlias = Literal["largest"] | Voxel
"""One of a region's connected components: the largest one, or the one that holds a voxel."""


class EmptyRegionError(ValueError):
    """A segmentation has nothing of what was asked for: there is no region to explain."""


@dataclass(frozen=True, eq=False)
class Region:
    """The sum of a channel's logits over a region of a segmentation: the score of Seg-Grad-CAM.

    The paper names three kinds of region: all voxels, a component or class, and a single one.

    Source: Vinogradova et al., 2020, "Towards Interpretable Semantic Segmentation via
    Gradient-weighted Class Activation Mapping", arXiv:2002.11434, equation 2.

    Args:
        channel: the channel: an int, or one per sample.
        mask: the region, ``(*s)``, ``(n, *s)`` or ``(n, 1, *s)``, on the output's grid; None =
            where the channel wins (has the largest logit; of a single channel, a positive one).
        activation: ``"softmax"`` or ``"sigmoid"`` to sum probabilities instead of logits.
        component: one connected component of that region, whose voxels share a face, an edge or a
            corner: ``"largest"``, or a voxel that it holds, one for all samples or one for each.
        voxel: a single voxel instead, wherever the channel wins: likewise.
    """

    channel: Index
    mask: Tensor | None = None
    activation: Activation = "none"
    component: Component = None
    voxel: Voxel = None
    # Found once: the mask is the region itself.
    _found: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", as_index(self.channel))
        check_activation(self.activation)
        if isinstance(self.component, str) and self.component != "largest":
            raise ValueError(
                f"expected a component as 'largest' or a voxel that it holds, got "
                f"{self.component!r}"
            )
        besides = self.component is not None or self.mask is not None
        if self.voxel is not None and besides and not self._found:
            raise ValueError("expected a voxel alone, got a mask or a component besides")

    def __repr__(self) -> str:
        voxels = "" if self.mask is None else f", mask=<{int(self.mask.bool().sum())} voxels>"
        activation = "" if self.activation == "none" else f", activation={self.activation!r}"
        parts = (("component", self.component), ("voxel", self.voxel))
        part = "".join(f", {name}={value!r}" for name, value in parts if value is not None)
        return f"Region(channel={self.channel}{part}{voxels}{activation})"

    def __call__(self, output: Any) -> Scores:
        logits = self._voxels(output)
        values = per_sample(ACTIVATIONS[self.activation](logits), self.channel, "class")
        # Not a product: outside the region a value may be infinite.
        return values.where(self._region(logits.detach()), 0).flatten(1).sum(1)

    def settled(self, output: Any) -> "Region":
        """The region as it is at this output."""
        return replace(self, mask=self._region(self._voxels(output).detach()), _found=True)

    def sample(self, i: int) -> "Region":
        """One sample's, of a settled target, whose mask has an axis of samples."""
        channel = self.channel if isinstance(self.channel, int) else as_index(self.channel)
        return replace(
            self,
            channel=channel if isinstance(channel, int) else channel[i],
            mask=None if self.mask is None else self.mask[i][None],
            component=_of_sample(self.component, i),
            voxel=_of_sample(self.voxel, i),
        )

    def _voxels(self, output: Any) -> Tensor:
        logits = wide(main_output(output))
        if logits.ndim < 3:
            raise ValueError(
                f"Region needs an output of voxels (n, channels, *s), got the shape "
                f"{tuple(logits.shape)}; for a classifier use ClassScore({self.channel})"
            )
        return logits

    def _region(self, logits: Tensor) -> Tensor:
        """The voxels that count, ``(n, *s)`` bool."""
        grid = (logits.shape[0], *logits.shape[2:])
        if self.voxel is not None and not self._found:
            return _single_voxels(self.voxel, grid, logits.device)
        region = self._wins(logits) if self.mask is None else self._masked(grid, logits.device)
        if self.component is None or self._found:
            return region
        return torch.stack(
            [_component(each, _of_sample(self.component, i)) for i, each in enumerate(region)]
        )

    def _wins(self, logits: Tensor) -> Tensor:
        region = won_by(logits, self.channel)
        if not region.flatten(1).any(1).all():
            raise EmptyRegionError(
                f"class {self.channel} wins at no voxel, so its region is empty; give a mask: "
                f"target=medsal.Region({self.channel}, mask)"
            )
        return region

    def _masked(self, grid: tuple[int, ...], device: torch.device) -> Tensor:
        mask = torch.as_tensor(self.mask, device=device).bool()
        mask = mask[:, 0] if mask.ndim == len(grid) + 1 and mask.shape[1] == 1 else mask
        mask = mask[None] if mask.ndim == len(grid) - 1 else mask
        if mask.shape[1:] != grid[1:] or mask.shape[0] not in (1, grid[0]):
            raise ValueError(
                f"expected a mask of the shape {grid[1:]}, {grid} or {(grid[0], 1, *grid[1:])}, as "
                f"the output has it, got {tuple(mask.shape)}"
            )
        if not mask.flatten(1).any(1).all():
            raise ValueError("expected a mask with a voxel set in each sample, got an empty one")
        return mask.expand(grid)


def _of_sample(place: Any, i: int) -> Any:
    """A voxel's place for one sample, of one for all or one for each."""
    each = place is not None and not isinstance(place, str) and isinstance(place[0], Sequence)
    return place[i] if each else place


def _inside(place: Sequence[int], size: Sequence[int]) -> tuple[int, ...]:
    whole = [int(each) for each in place]
    if len(whole) != len(size) or not all(0 <= p < n for p, n in zip(whole, size, strict=True)):
        raise ValueError(f"expected a voxel of the output's grid {tuple(size)}, got {tuple(whole)}")
    return tuple(whole)


def _single_voxels(place: Any, grid: tuple[int, ...], device: torch.device) -> Tensor:
    if isinstance(place[0], Sequence) and len(place) != grid[0]:
        raise ValueError(f"expected one voxel or {grid[0]} (one per sample), got {len(place)}")
    region = torch.zeros(grid, dtype=torch.bool, device=device)
    for i, mask in enumerate(region):
        mask[_inside(_of_sample(place, i), grid[1:])] = True
    return region


def _component(region: Tensor, which: Any) -> Tensor:
    """One connected component of a sample's region ``(*s)``."""
    import SimpleITK

    # It wants two axes at least.
    array = region.cpu().numpy().astype("uint8")
    image = SimpleITK.GetImageFromArray(array if array.ndim > 1 else array[None])
    labelled = SimpleITK.GetArrayFromImage(SimpleITK.ConnectedComponent(image, True))
    labels = torch.from_numpy(labelled.astype("int64")).reshape(region.shape)
    if which == "largest":
        number = int(labels.flatten().bincount()[1:].argmax()) + 1
    else:
        number = int(labels[_inside(which, region.shape)])
        if number == 0:
            raise ValueError(
                f"expected a voxel within the region, got {tuple(which)}, which is outside it"
            )
    return (labels == number).to(region.device)
