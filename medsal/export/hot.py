"""The hot region: the voxels where a map reaches a stated share of its largest value."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from medsal.view.scale import is_signed

SHARE = 0.5
"""Of the largest magnitude: the full width at half maximum."""


@dataclass(frozen=True, eq=False)
class Hot:
    """A hot region of one sign.

    Attributes:
        mask: ``(*s)``, the voxels.
        sign: 1 = they speak for the target, -1 = against it.
        share: of the largest magnitude of this sign.
        threshold: the raw value that voxels reach, as a magnitude.
    """

    mask: Bool[np.ndarray, "*s"]
    sign: int
    share: float
    threshold: float

    @property
    def words(self) -> str:
        """The threshold as a viewer states it."""
        return f"at least {self.share:.0%} of the maximum, {self.threshold:.4g}"


def hot_regions(data: Float32[np.ndarray, "*s"], share: float = SHARE) -> list[Hot]:
    """The hot region of a map; of a signed map one for each sign; none of an empty one.

    Raises:
        ValueError: for a share that is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"expected a share of the maximum, above 0 and at most 1, got {share!r}")
    found = []
    for sign in signs(data):
        part = data * sign
        threshold = float(part.max()) * share
        found.append(Hot(part >= np.float32(threshold), sign, share, threshold))
    return found


def signs(data: Float32[np.ndarray, "*s"]) -> list[int]:
    """The signs that a map has: 1, -1, both, or none of an empty one; rounding does not count."""
    low, high = float(data.min()), float(data.max())
    # Seen from the other side, the positive values are the negative ones.
    return [1] * is_signed(-high, -low) + [-1] * is_signed(low, high)
