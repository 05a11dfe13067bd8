"""Heads whose channels do not compete: a sigmoid for each, as for nested parts of a tumour."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medsal.outputs import Index, as_index, class_logits, main_output, per_sample, wide
from medsal.targets import ClassScore, Difference, EmptyRegionError, Predicted, Region
from medsal.types import Scores, Target

ACTIVATIONS = ("Activations", "Activationsd", "ActivationsD", "ActivationsDict")


@dataclass(frozen=True)
class Positive:
    """A channel over the voxels where it says yes by itself: where its logit is positive.

    `medsal.Region` takes those where the channel has the largest logit, as softmax does. Of a
    classifier, the class's logit.

    Args:
        channel: an int, or one per sample; None = the one that covers most, the first included:
            no channel is the background.
    """

    channel: Index | None = None

    def __call__(self, output: Any) -> Scores:
        return self.settled(output)(output)

    def settled(self, output: Any) -> Target:
        """The region where the channel is positive at this output.

        Raises:
            EmptyRegionError: when it is so nowhere in a sample.
        """
        if class_logits(output) is not None:
            chosen = Predicted() if self.channel is None else ClassScore(self.channel)
            return chosen.settled(output)
        positive = wide(main_output(output)).detach() > 0
        covered = positive.flatten(2).sum(2)
        channel = covered.argmax(1).tolist() if self.channel is None else as_index(self.channel)
        if not bool(per_sample(covered, channel, "class").all()):
            which = "" if self.channel is None else f"channel {self.channel} of "
            raise EmptyRegionError(
                f"{which}the segmentation is positive at no voxel, so there is no region to "
                f"explain; name a mask: target=medsal.Region(channel, mask)"
            )
        only = channel[0] if isinstance(channel, Sequence) and len(channel) == 1 else channel
        return Region(only, mask=per_sample(positive, channel, "class"))

    def sample(self, i: int) -> "Positive":
        """One sample's."""
        one = self.channel is None or isinstance(self.channel, int)
        return self if one else replace(self, channel=as_index(self.channel)[i])  # type: ignore[index]


def for_head(target: Any, multilabel: bool) -> Any:
    """What a user's target means for a head: numbers and None, where channels do not compete."""
    if multilabel and isinstance(target, list | tuple):
        return [for_head(each, multilabel) for each in target]
    if multilabel and isinstance(target, Difference):
        return Difference(for_head(target.a, multilabel), for_head(target.b, multilabel))
    return target if callable(target) or not multilabel else Positive(target)


def is_multilabel(config: Any) -> bool:
    """Whether the transforms of a bundle's config put a sigmoid on each channel."""
    found = list(_activations(config))
    return any(_says(each, "sigmoid") for each in found) and not any(
        _says(each, "softmax") for each in found
    )


def _activations(config: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(config, Mapping):
        if str(config.get("_target_", "")).split(".")[-1] in ACTIVATIONS:
            yield config
        config = list(config.values())
    for value in config if isinstance(config, list) else ():
        yield from _activations(value)


def _says(config: Mapping[str, Any], option: str) -> bool:
    value = config.get(option)
    return value is True or (isinstance(value, list) and True in value)
