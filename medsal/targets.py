"""What is explained: targets turn a model's output into one score per sample.

A target is any callable ``output -> (n,)``. Those here are frozen values with a readable repr;
``settled`` fixes what they choose by themselves (the predicted class, the region where a channel
wins) at the clean image's output.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from medsal.types import Scores, Target

Activation = Literal["none", "softmax", "sigmoid"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": lambda logits: logits.sigmoid(),
}


def main_output(output: Any) -> Tensor:
    """The tensor that an index refers to: the output, or the first one of a tuple or list.

    Raises:
        TypeError: for a dict or anything else: which entry is meant must be said by a callable
            target.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and output:
        return main_output(output[0])
    keys = f" with the keys {sorted(map(str, output))}" if isinstance(output, Mapping) else ""
    raise TypeError(
        f"expected a tensor, or a tuple or list that starts with one, as the model's output; got "
        f"{type(output).__name__}{keys}; give a callable, e.g. "
        f"target=lambda output: output['logits'][:, 0]"
    )


def class_logits(output: Any) -> Tensor | None:
    """A classifier's logits ``(n, c)``, or None where the output is a map of voxels.

    A head of convolutions gives ``(n, c, 1, ...)``; that counts as a class vector.
    """
    logits = main_output(output)
    if logits.ndim > 2 and any(size > 1 for size in logits.shape[2:]):
        return None
    return logits[:, None] if logits.ndim == 1 else logits.flatten(1)


def _two_sided(logits: Tensor) -> Tensor:
    """One logit is a binary classifier: its classes are 0 (the negated logit) and 1."""
    return torch.cat([-logits, logits], 1) if logits.shape[1] == 1 else logits


def _per_sample(values: Tensor, index: int | tuple[int, ...], what: str) -> Tensor:
    """``values[i, index[i]]`` for each sample, with bounds said in words."""
    samples, count = values.shape[:2]
    indices = (index,) * samples if isinstance(index, int) else index
    if len(indices) != samples:
        raise ValueError(
            f"expected one {what} or {samples} (one per sample), got {len(indices)}: {indices}"
        )
    for each in indices:
        if not 0 <= each < count:
            raise LookupError(
                f"the model gives {count} {what}es (0 to {count - 1}), got {what} {each}"
            )
    rows = torch.arange(samples, device=values.device)
    return values[rows, torch.tensor(indices, device=values.device)]


def _as_index(index: Any) -> int | tuple[int, ...]:
    """An int or one int per sample, from what users hold: ints, lists, NumPy or torch integers."""
    plain = index.tolist() if hasattr(index, "tolist") else index
    entries = list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else [plain]
    if not entries or any(
        isinstance(entry, bool) or not isinstance(entry, int) for entry in entries
    ):
        raise TypeError(f"expected a class as an int, or one int per sample, got {index!r}")
    return plain if isinstance(plain, int) else tuple(entries)


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

    index: int | tuple[int, ...]
    activation: Activation = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _as_index(self.index))
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
            return _per_sample(_two_sided(logits).sigmoid(), self.index, "class")
        if logits.shape[1] == 1 and self.activation == "softmax":
            raise ValueError("softmax over one logit is 1 everywhere; use activation='sigmoid'")
        values = logits if logits.shape[1] == 1 else _ACTIVATIONS[self.activation](logits)
        return _per_sample(_two_sided(values), self.index, "class")

    def settled(self, output: Any) -> Target:
        if class_logits(output) is not None:
            return self
        return Region(self.index, activation=self.activation).settled(output)

    def sample(self, i: int) -> "ClassScore":
        return self if isinstance(self.index, int) else replace(self, index=self.index[i])


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
            return ClassScore(_one_or_many(_two_sided(logits.detach()).argmax(1).tolist()))
        wins = _winning(main_output(output).detach())
        covered = wins.flatten(2).sum(2)
        first = 1 if covered.shape[1] > 1 else 0
        if not covered[:, first:].any(1).all():
            raise ValueError(
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
        a: what speaks for it: a class or any target.
        b: what speaks against it.
    """

    a: "int | Target"
    b: "int | Target"

    def __call__(self, output: Any) -> Scores:
        return _single(self.a)(output) - _single(self.b)(output)

    def settled(self, output: Any) -> Target:
        return Difference(settle(_single(self.a), output), settle(_single(self.b), output))


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

    channel: int | tuple[int, ...]
    mask: Tensor | None = None
    activation: Activation = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channel", _as_index(self.channel))
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
        values = _per_sample(_ACTIVATIONS[self.activation](logits), self.channel, "class")
        return (values * self._region(logits.detach()).to(values.dtype)).flatten(1).sum(1)

    def settled(self, output: Any) -> Target:
        return (
            replace(self, mask=self._region(self._voxels(output).detach()))
            if self.mask is None
            else self
        )

    def sample(self, i: int) -> "Region":
        channel = self.channel if isinstance(self.channel, int) else self.channel[i]
        # A mask for all samples has no sample axis, or one of size 1.
        several = (
            self.mask is not None and self.mask.shape[0] > 1 and isinstance(self.channel, tuple)
        )
        return replace(
            self,
            channel=channel,
            mask=self.mask[i][None] if several and self.mask is not None else self.mask,
        )

    def _voxels(self, output: Any) -> Tensor:
        logits = main_output(output)
        if logits.ndim < 3:
            raise ValueError(
                f"Region needs an output of voxels (n, channels, *s), got the shape "
                f"{tuple(logits.shape)}; for a classifier use ClassScore({self.channel})"
            )
        return logits

    def _region(self, logits: Tensor) -> Tensor:
        """The voxels that count, ``(n, *s)`` bool."""
        if self.mask is None:
            region = _per_sample(_winning(logits), self.channel, "class")
            if not region.flatten(1).any(1).all():
                raise ValueError(
                    f"class {self.channel} wins at no voxel, so its region is empty; give a mask: "
                    f"target=medsal.Region({self.channel}, mask)"
                )
            return region
        mask = self.mask.to(logits.device).bool()
        grid = (logits.shape[0], *logits.shape[2:])
        mask = mask[:, 0] if mask.ndim == logits.ndim and mask.shape[1] == 1 else mask
        if mask.shape[-len(grid[1:]) :] != grid[1:] or mask.ndim > len(grid) or not mask.any():
            raise ValueError(
                f"expected a mask with a voxel set, on the output's grid {grid[1:]}, got "
                f"{int(mask.sum())} voxels of the shape {tuple(self.mask.shape)}"
            )
        return mask.expand(grid)


def _winning(logits: Tensor) -> Tensor:
    """Where each channel wins, ``(n, c, *s)`` bool."""
    if logits.shape[1] == 1:
        return logits > 0
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(
        1, logits.argmax(1, keepdim=True), True
    )


def _single(value: "int | Target | None") -> Target:
    if value is None:
        return Predicted()
    return value if callable(value) else ClassScore(value)


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


def checked_scores(target: Target, output: Any, samples: int) -> Scores:
    """A target's scores, ``(n,)``.

    Raises:
        ValueError: when the target does not give one score per sample.
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
    return scores
