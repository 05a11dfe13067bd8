"""What to tell of a result, put down as it is made."""

from dataclasses import dataclass, field
from typing import Any

from medsal.probe.visits.inventory import Inventory
from medsal.targets import settle
from medsal.types import Target


@dataclass
class Record:
    """What the first forward pass of a probe showed, for the result that is made of it."""

    output: Any = None
    # How many forward passes there were, and the targets with what each became in the only one.
    passes: int = 0
    settled: list[tuple[Target, Target]] = field(default_factory=list, repr=False)
    layers: tuple[str, ...] = ()
    cells: tuple[int, ...] | None = None
    # The spatial size that the cells divide: the image's, or that of a window of it.
    extent: tuple[int, ...] | None = None
    # What the model was made of as the explanation began.
    found: Inventory | None = field(default=None, repr=False)
    _notes: dict[str, tuple[float, str]] = field(default_factory=dict)

    def settled_of(self, target: Target) -> Target:
        """A target with its own choices fixed at the output, as it was scored or now."""
        known = [each for asked, each in self.settled if asked is target]
        return known[0] if known else settle(target, self.output)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(text for _, text in self._notes.values())

    def note(self, text: str, about: str | None = None, worse: float = 0.0) -> bool:
        """Put down what to tell of the result.

        Args:
            text: the note.
            about: what it is about; of several notes about one thing, which a method's wrappers may
                collect, the worst one is kept.
            worse: how bad it is.

        Returns:
            Whether it is new.
        """
        before = self._notes.get(about or text)
        if before and before[0] >= worse:
            return False
        self._notes[about or text] = (worse, text)
        return True
