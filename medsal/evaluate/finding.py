"""One thing that a check found out, and when it counts as passed."""

from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["passed", "partly", "failed", "undecided"]

# Cohen, 1988, Statistical Power Analysis for the Behavioral Sciences, section 3.2: correlations of
# 0.1 are small, of 0.5 large.
SMALL, LARGE = 0.1, 0.5


@dataclass(frozen=True)
class Finding:
    """One question to a map, and its answer.

    Attributes:
        name: what was asked.
        outcome: ``"passed"``, ``"partly"``, ``"failed"``, or ``"undecided"`` where it can't be
            told.
        value: the figure that was found; None where there is none.
        chance: what random maps of the same smoothness reach; None where there are none.
        words: the answer in a sentence or two.
    """

    name: str
    outcome: Outcome
    value: float | None
    chance: float | None
    words: str

    @property
    def line(self) -> str:
        """The outcome with its figures."""
        if self.value is None:
            return self.outcome
        by_chance = "" if self.chance is None else f", by chance up to {self.chance:.2f}"
        return f"{self.outcome}: {self.value:.2f}{by_chance}"

    def as_dict(self) -> dict[str, Any]:
        """What JSON holds of it."""
        return {
            "Name": self.name,
            "Outcome": self.outcome,
            "Value": self.value,
            "Chance": self.chance,
            "Words": self.words,
        }


def likeness(value: float, chance: float) -> Outcome:
    """Whether two maps that should differ do.

    Passed: they are alike by 0.1 at most (small), or no more than random maps are. Failed: by 0.5
    or more (large). Undecided where random maps of this smoothness reach that as well.
    """
    if chance >= LARGE:
        return "undecided"
    if value <= max(SMALL, chance):
        return "passed"
    return "failed" if value >= LARGE else "partly"


def lead(value: float, random: list[float]) -> Outcome:
    """Whether a figure is better than those of random maps: than all of them, or than most."""
    if value > max(random):
        return "passed"
    return "partly" if value > sorted(random)[len(random) // 2] else "failed"
