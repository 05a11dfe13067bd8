"""What a model puts out: a vector of classes, or a map of voxels."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

Index: TypeAlias = int | Sequence[int] | Tensor
"""A class or channel: one, or one per sample."""

Activation = Literal["none", "softmax", "sigmoid"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda logits: logits,
    "softmax": lambda logits: logits.softmax(1),
    "sigmoid": lambda logits: logits.sigmoid(),
}


def check_activation(name: Any) -> None:
    """Refuse what is no activation of a head.

    Raises:
        ValueError: when it is none of those above.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"expected an activation of {list(ACTIVATIONS)}, got {name!r}")


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

    Raises:
        ValueError: when there is no axis of samples.
    """
    logits = main_output(output)
    if logits.ndim == 0:
        raise ValueError(
            "expected an output with an axis of samples, got a single number; "
            "explain the network inside, which gives one score per sample"
        )
    if logits.ndim > 2 and any(size > 1 for size in logits.shape[2:]):
        return None
    return wide(logits[:, None] if logits.ndim == 1 else logits.flatten(1))


def wide(logits: Tensor) -> Tensor:
    """In float32 at least: sums of voxels overflow in half precision, probabilities vanish."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def two_sided(logits: Tensor) -> Tensor:
    """One logit is a binary classifier: its classes are 0 (the negated logit) and 1."""
    return torch.cat([-logits, logits], 1) if logits.shape[1] == 1 else logits


def as_index(index: Any) -> int | tuple[int, ...]:
    """An int or one int per sample, from what users hold: ints, lists, NumPy or torch integers."""
    plain: Any = index.tolist() if hasattr(index, "tolist") else index
    entries = list(plain) if isinstance(plain, Sequence) and not isinstance(plain, str) else [plain]
    if not entries or any(
        isinstance(entry, bool) or not isinstance(entry, int) for entry in entries
    ):
        raise TypeError(f"expected a class as an int, or one int per sample, got {index!r}")
    return plain if isinstance(plain, int) else tuple(entries)


def _one_each(index: Index, samples: int, what: str) -> tuple[int, ...]:
    """An index for each sample."""
    index = as_index(index)
    indices = (index,) * samples if isinstance(index, int) else index
    if len(indices) != samples:
        raise ValueError(
            f"expected one {what} or {samples} (one per sample), got {len(indices)}: {indices}"
        )
    return indices


def per_sample(values: Tensor, index: Index, what: str) -> Tensor:
    """``values[i, index[i]]`` for each sample, with bounds said in words."""
    samples, count = values.shape[:2]
    indices = _one_each(index, samples, what)
    for each in indices:
        if not 0 <= each < count:
            raise LookupError(
                f"the model gives {count} {what}es (0 to {count - 1}), got {what} {each}"
            )
    rows = torch.arange(samples, device=values.device)
    return values[rows, torch.tensor(indices, device=values.device)]


def won_by(logits: Tensor, index: Index) -> Tensor:
    """Where a channel wins, ``(n, *s)`` bool: of equals the first one, as `Tensor.argmax` says."""
    chosen = per_sample(logits, index, "class")
    if logits.shape[1] == 1:
        return chosen > 0
    indices = _one_each(index, len(logits), "class")
    # Two maxima: argmax along the channels is many times slower.
    wins = chosen.isnan()
    for all_channels, i, own, won in zip(logits, indices, chosen, wins, strict=True):
        before, after = all_channels[:i], all_channels[i + 1 :]
        larger = own > before.amax(0) if i else torch.ones_like(won)
        won |= larger & (own >= after.amax(0)) if len(after) else larger
    return wins


def covered_by(logits: Tensor) -> Tensor:
    """At how many voxels each channel wins, ``(n, c)``."""
    if logits.shape[1] == 1:
        return (logits > 0).flatten(2).sum(2)
    # Comparisons with the maximum: its place, argmax, takes several times as long.
    top = logits.amax(1)
    if bool(top.sum().isnan()):
        logits = logits.nan_to_num(nan=math.inf)  # what is not a number wins
        top = logits.amax(1)
    left, counts = torch.ones_like(top, dtype=torch.bool), []
    for channel in logits.unbind(1):
        won = left & (channel == top)
        counts.append(won.flatten(1).sum(1))
        left ^= won  # of equals the first one wins
    return torch.stack(counts, 1)
