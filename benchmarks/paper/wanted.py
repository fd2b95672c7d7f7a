"""What a question measures of a trained cell, beside the accuracy before personalization, which training leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["head", "body", "full"]


@dataclass(frozen=True)
class Tuning:
    """Fine-tuning of a part, judged after each of the numbers of epochs."""

    part: Part
    lr: float
    epochs: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.part}-lr{self.lr:g}"


# The paper's personalization.
PAPER_TUNING = Tuning("full", 0.001, (5,))


@dataclass(frozen=True)
class Wanted:
    """templates: nearest class template for each client. pooled: everybody's pictures in one pool."""

    templates: bool = False
    pooled: bool = False
    tunings: tuple[Tuning, ...] = ()

    def __bool__(self) -> bool:
        return self.templates or self.pooled or bool(self.tunings)

    def __or__(self, other: Wanted) -> Wanted:
        """What both want; a fine-tuning that both want is judged after the epochs of either."""
        epochs: dict[tuple[Part, float], set[int]] = {}
        for tuning in (*self.tunings, *other.tunings):
            epochs.setdefault((tuning.part, tuning.lr), set()).update(tuning.epochs)
        return Wanted(
            self.templates or other.templates,
            self.pooled or other.pooled,
            tuple(Tuning(part, lr, tuple(sorted(found))) for (part, lr), found in epochs.items()),
        )

    @property
    def names(self) -> list[str]:
        """One for each evaluation, as its file has it."""
        plain = [name for name, asked in (("templates", self.templates), ("pooled", self.pooled)) if asked]
        return plain + [tuning.name for tuning in self.tunings]

    @property
    def epochs(self) -> int:
        """Passes over all clients' pictures to fine-tune."""
        return sum(max(tuning.epochs) for tuning in self.tunings)
