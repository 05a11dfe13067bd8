"""What to tell of a result, put down as it is made."""

from dataclasses import dataclass, field
from typing import Any

from medsal.probe.visits.inventory import Inventory


@dataclass
class Record:
    """What the first forward pass of a probe showed, for the result that is made of it."""

    output: Any = None
    layers: tuple[str, ...] = ()
    cells: tuple[int, ...] | None = None
    # The spatial size that the cells divide: the image's, or that of a window of it.
    extent: tuple[int, ...] | None = None
    # What the model was made of as the explanation began.
    found: Inventory | None = field(default=None, repr=False)
    _notes: dict[str, tuple[float, str]] = field(default_factory=dict)

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
