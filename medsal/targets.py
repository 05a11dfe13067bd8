"""What is explained: targets turn a model's output into one score per sample.

A target is any callable ``output -> (n,)``. Those here are frozen values with a readable repr;
``settled`` fixes what they choose by themselves (the predicted class, the region where a channel
wins) at the clean image's output.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor

from medsal.outputs import (
    Index,
    as_index,
    class_logits,
    main_output,
    per_sample,
    two_sided,
    wide,
    winning,
)
from medsal.types import Scores, Target

Activation = Literal["none", "softmax", "sigmoid"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": lambda logits: logits.sigmoid(),
}


class EmptyRegionError(ValueError):
    """A segmentation has nothing of what was asked for: there is no region to explain."""


@dataclass(frozen=True)
class ClassScore:
    """The logit of a class.

    Of a segmentation's output, its logits over the region where the class wins (`Region`).

    Args:
        index: the class: an int, or one per sample. A network with one logit has the classes 1 and
            0 (the negated logit).
        activation: ``"none"`` for the logit; ``"softmax"`` or ``"sigmoid"`` for the probability,
            whose gradient vanishes where the network is sure.
    """

    index: Index
    activation: Activation = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", as_index(self.index))
        if self.activation not in _ACTIVATIONS:
            raise ValueError(
                f"expected an activation of {list(_ACTIVATIONS)}, got {self.activation!r}"
            )

    def __repr__(self) -> str:
        activation = "" if self.activation == "none" else f", activation={self.activation!r}"
        return f"ClassScore(index={self.index}{activation})"

    def __call__(self, output: Any) -> Scores:
        logits = class_logits(output)
        if logits is None:
            return Region(self.index, activation=self.activation)(output)
        if logits.shape[1] == 1 and self.activation == "sigmoid":
            return per_sample(two_sided(logits).sigmoid(), self.index, "class")
        if logits.shape[1] == 1 and self.activation == "softmax":
            raise ValueError("softmax over one logit is 1 everywhere; use activation='sigmoid'")
        values = logits if logits.shape[1] == 1 else _ACTIVATIONS[self.activation](logits)
        return per_sample(two_sided(values), self.index, "class")

    def settled(self, output: Any) -> Target:
        if class_logits(output) is not None:
            return self
        return Region(self.index, activation=self.activation).settled(output)

    def sample(self, i: int) -> "ClassScore":
        index = as_index(self.index)
        return self if isinstance(index, int) else replace(self, index=index[i])


@dataclass(frozen=True)
class Predicted:
    """What the model predicts: the class with the largest logit.

    Of a segmentation's output, the channel that covers most foreground.

    Channel 0 of a segmentation with several channels is the background.
    """

    def __call__(self, output: Any) -> Scores:
        return self.settled(output)(output)

    def settled(self, output: Any) -> Target:
        logits = class_logits(output)
        if logits is not None:
            return ClassScore(_one_or_many(two_sided(logits.detach()).argmax(1).tolist()))
        wins = winning(main_output(output).detach())
        covered = wins.flatten(2).sum(2)
        first = 1 if covered.shape[1] > 1 else 0
        if not covered[:, first:].any(1).all():
            raise EmptyRegionError(
                "the segmentation has no foreground to explain; name a channel and a mask: "
                "target=medsal.Region(channel, mask)"
            )
        return Region(_one_or_many((covered[:, first:].argmax(1) + first).tolist())).settled(output)


def _one_or_many(indices: list[int]) -> int | tuple[int, ...]:
    return indices[0] if len(indices) == 1 else tuple(indices)


@dataclass(frozen=True)
class Difference:
    """Why this and not that: the score of one target minus that of another.

    Args:
        a: what speaks for it: a class, any target, or None for the prediction.
        b: what speaks against it.
    """

    a: "int | Target | None"
    b: "int | Target | None"

    def __call__(self, output: Any) -> Scores:
        return _single(self.a)(output) - _single(self.b)(output)

    def settled(self, output: Any) -> Target:
        return Difference(settle(_single(self.a), output), settle(_single(self.b), output))

    def sample(self, i: int) -> "Difference":
        return Difference(sample_of(_single(self.a), i), sample_of(_single(self.b), i))


@dataclass(frozen=True, eq=False)
class Region:
    """The sum of a channel's logits over a region of a segmentation: the score of Seg-Grad-CAM.

    Source: Vinogradova et al., 2020, "Towards Interpretable Semantic Segmentation via
    Gradient-weighted Class Activation Mapping", arXiv:2002.11434, equation 2.

    Args:
        channel: the channel: an int, or one per sample.
        mask: the region, ``(*s)``, ``(n, *s)`` or ``(n, 1, *s)``, on the output's grid; None =
            where the channel wins (has the largest logit; of a single channel, a positive one).
        activation: ``"softmax"`` or ``"sigmoid"`` to sum probabilities instead of logits.
    """

    channel: Index
    mask: Tensor | None = None
    activation: Activation = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", as_index(self.channel))
        if self.activation not in _ACTIVATIONS:
            raise ValueError(
                f"expected an activation of {list(_ACTIVATIONS)}, got {self.activation!r}"
            )

    def __repr__(self) -> str:
        voxels = "" if self.mask is None else f", mask=<{int(self.mask.bool().sum())} voxels>"
        activation = "" if self.activation == "none" else f", activation={self.activation!r}"
        return f"Region(channel={self.channel}{voxels}{activation})"

    def __call__(self, output: Any) -> Scores:
        logits = self._voxels(output)
        values = per_sample(_ACTIVATIONS[self.activation](logits), self.channel, "class")
        # Not a product: outside the region a value may be infinite.
        return values.where(self._region(logits.detach()), 0).flatten(1).sum(1)

    def settled(self, output: Any) -> Target:
        return replace(self, mask=self._region(self._voxels(output).detach()))

    def sample(self, i: int) -> "Region":
        """One sample's, of a settled target, whose mask has an axis of samples."""
        channel = self.channel if isinstance(self.channel, int) else self.channel[i]
        return replace(
            self, channel=channel, mask=None if self.mask is None else self.mask[i][None]
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
        if self.mask is None:
            region = per_sample(winning(logits), self.channel, "class")
            if not region.flatten(1).any(1).all():
                raise EmptyRegionError(
                    f"class {self.channel} wins at no voxel, so its region is empty; give a mask: "
                    f"target=medsal.Region({self.channel}, mask)"
                )
            return region
        mask = self.mask.to(logits.device).bool()
        grid = (logits.shape[0], *logits.shape[2:])
        mask = mask[:, 0] if mask.ndim == logits.ndim and mask.shape[1] == 1 else mask
        mask = mask[None] if mask.ndim == len(grid) - 1 else mask
        if mask.shape[1:] != grid[1:] or mask.shape[0] not in (1, grid[0]):
            raise ValueError(
                f"expected a mask of the shape {grid[1:]}, {grid} or {(grid[0], 1, *grid[1:])}, as "
                f"the output has it, got {tuple(self.mask.shape)}"
            )
        if not mask.flatten(1).any(1).all():
            raise ValueError("expected a mask with a voxel set in each sample, got an empty one")
        return mask.expand(grid)


def _single(value: Any) -> Target:
    if value is None:
        return Predicted()
    return value if callable(value) else ClassScore(as_index(value))


def as_target(value: Any) -> "Target | tuple[Target, ...]":
    """What the user meant: None (the prediction), an int, a target, or a list of these.

    Raises:
        TypeError: for anything else.
        ValueError: for an empty list.
    """
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("expected at least one target, got an empty list")
        return tuple(_single(entry) for entry in value)
    return _single(value)


def settle(target: Target, output: Any) -> Target:
    """The target with its own choices fixed at this output (a plain callable has none)."""
    fix = getattr(target, "settled", None)
    return fix(output) if fix else target


def sample_of(target: Target, i: int) -> Target:
    """What a settled target means for one sample (a plain callable is the same for all)."""
    pick = getattr(target, "sample", None)
    return pick(i) if pick else target


def checked_scores(target: Target, output: Any, samples: int) -> Scores:
    """A target's scores, ``(n,)``.

    Raises:
        ValueError: when the target does not give one finite score per sample.
    """
    scores = target(output)
    name = getattr(target, "__name__", None) or repr(target)
    if (
        not isinstance(scores, Tensor)
        or not scores.is_floating_point()
        or scores.shape != (samples,)
    ):
        got = (
            f"the shape {tuple(scores.shape)}, {scores.dtype}"
            if isinstance(scores, Tensor)
            else repr(scores)
        )
        raise ValueError(
            f"a target gives one score per sample, shape ({samples},); {name} gave {got}"
        )
    if not bool(scores.detach().isfinite().all()):
        raise ValueError(
            f"expected finite scores, {name} gave {scores.detach().tolist()}; check the model's "
            f"output for this image"
        )
    return scores
