"""What is explained: targets turn a model's output into one score per sample.

A target is any callable ``output -> (n,)``. Those here are frozen values with a readable repr;
``settled`` fixes what they choose by themselves (the predicted class, the region where a channel
wins) at the clean image's output.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from medsal.outputs import (
    ACTIVATIONS,
    Activation,
    Index,
    as_index,
    check_activation,
    class_logits,
    covered_by,
    main_output,
    per_sample,
    two_sided,
    wide,
)
from medsal.regions import Component, EmptyRegionError, Region
from medsal.types import Scores, Target


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
        check_activation(self.activation)

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
        values = logits if logits.shape[1] == 1 else ACTIVATIONS[self.activation](logits)
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

    Of a segmentation's output, the channel that covers most foreground. Channel 0 of a
    segmentation with several channels is the background; where channels do not compete and none
    is, use `Positive`.
    """

    def __call__(self, output: Any) -> Scores:
        return self.settled(output)(output)

    def settled(self, output: Any) -> Target:
        logits = class_logits(output)
        if logits is not None:
            return ClassScore(_one_or_many(two_sided(logits.detach()).argmax(1).tolist()))
        covered = covered_by(main_output(output).detach())
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


@dataclass(frozen=True)
class Positive:
    """A channel over the voxels where it says yes by itself: where its logit is positive.

    For heads whose channels do not compete (a sigmoid for each): `Region` takes the voxels where
    the channel has the largest logit, as softmax does. Of a classifier, the class's logit.

    Args:
        channel: an int, or one per sample; None = the one that covers most, the first included:
            no channel is the background.
        component: one connected component of these voxels; see `Region`.
    """

    channel: Index | None = None
    component: Component = None

    def __post_init__(self) -> None:
        if self.channel is not None:
            object.__setattr__(self, "channel", as_index(self.channel))

    def __call__(self, output: Any) -> Scores:
        return self.settled(output)(output)

    def settled(self, output: Any) -> Target:
        """The region where the channel is positive at this output.

        Raises:
            EmptyRegionError: when it is so nowhere in a sample.
        """
        if class_logits(output) is not None:
            return (Predicted() if self.channel is None else ClassScore(self.channel)).settled(
                output
            )
        positive = wide(main_output(output)).detach() > 0
        covered = positive.flatten(2).sum(2)
        found = covered.argmax(1).tolist() if self.channel is None else self.channel
        if not bool(per_sample(covered, found, "class").all()):
            which = "" if self.channel is None else f"channel {self.channel} of "
            raise EmptyRegionError(
                f"{which}the segmentation is positive at no voxel, so there is no region to "
                f"explain; name a mask: target=medsal.Region(channel, mask)"
            )
        channel = _one_or_many(found) if isinstance(found, list) else found
        mask = per_sample(positive, channel, "class")
        return Region(channel, mask, component=self.component).settled(output)

    def sample(self, i: int) -> "Positive":
        """One sample's."""
        channel = self.channel if isinstance(self.channel, int | None) else as_index(self.channel)
        return replace(self, channel=channel[i] if isinstance(channel, tuple) else channel)


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


def choice_of(asked: Target, settled: Target) -> str | None:
    """What to tell of a channel that nobody named; None where there is nothing to tell."""
    if not isinstance(asked, Predicted | Positive) or not isinstance(settled, Region):
        return None
    if isinstance(asked, Positive) and asked.channel is not None:
        return None
    most = "most foreground" if isinstance(asked, Predicted) else "most voxels"
    return f"no class was named: channel {settled.channel} is explained, which covers {most}"


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
    numbers = scores.detach().tolist()
    if not all(map(math.isfinite, numbers)):
        raise ValueError(
            f"expected finite scores, {name} gave {numbers}; check the model's output for this "
            f"image"
        )
    return scores
