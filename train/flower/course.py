"""A run over silos that has begun: what all its stages work on, and how they ask the silos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from fbkit.console import Reporter
from fbkit.train.federation import Federation
from fbkit.train.flower.gathering import Silos
from fbkit.train.flower.letters import Letter
from fbkit.train.flower.terms import Terms, travelling_part
from fbkit.train.run_folder import Run

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Course:
    """federation: as the server has it, with clients whose pictures are elsewhere."""

    run: Run
    federation: Federation
    terms: Terms
    silos: Silos
    reporter: Reporter

    @property
    def part(self) -> nn.Module:
        """What travels, as the server has it."""
        return travelling_part(self.federation.algorithm, self.federation.model)

    def ask(
        self,
        kind: str,
        clients: Sequence[int],
        read: Callable[[int, Letter], Answer],
        stage: str,
        round_number: int = 0,
    ) -> dict[int, Answer]:
        """Send the present weights to some silos, read what they answer; see ``Silos.ask``."""
        said = self.terms.model_copy(update={"round_number": round_number}).model_dump()
        letter = Letter(said, {name: values.detach() for name, values in self.part.state_dict().items()})
        return self.silos.ask(kind, clients, letter, read, stage, Letter(self.terms.model_dump()))

    def pictures(self) -> dict[int, int]:
        """How many training pictures each silo has."""
        return {number: silo.said.train_pictures for number, silo in self.silos.members.items()}
