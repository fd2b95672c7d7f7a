"""Checkpoints of a run: when one is due, how many are kept, from which one a run goes on.

checkpoints/round-00010.safetensors    the whole model after round 10
"""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fbkit.errors import UserError
from fbkit.files import sync_folder
from fbkit.train.weights import load_into, read_weights, save_weights

_NAME = re.compile(r"round-([0-9]{5,9})\.safetensors")


@dataclass(frozen=True)
class CheckpointPolicy:
    """What of checkpoints does not belong in a recipe, because no result depends on it.

    minutes: a checkpoint is also written after a round that ends so long after the last one; 0 for only those that
    the recipe's ``training.checkpoint_every`` asks for. kept: how many stay, the newest ones.
    """

    minutes: float = 0.0
    kept: int = 2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.minutes) and self.minutes >= 0):
            raise UserError(f"--checkpoint-minutes: a number of at least 0 is needed, found {self.minutes}")
        if self.kept < 1:
            raise UserError(f"--keep-checkpoints: at least 1 is needed, found {self.kept}")


class Checkpoints:
    """The checkpoints in a run's folder. Only the first worker writes and removes any."""

    def __init__(self, run_folder: Path, policy: CheckpointPolicy | None = None) -> None:
        self._folder = run_folder / "checkpoints"
        self._policy = policy or CheckpointPolicy()
        self._written = time.monotonic()
        self._damaged: list[int] = []

    def rounds(self) -> list[int]:
        """The rounds that have one, ascending."""
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir()) if self._folder.is_dir() else ()
        return sorted(int(match[1]) for match in found if match)

    @property
    def oldest(self) -> int:
        """The earliest round that the run may be asked to go back to.

        A checkpoint is removed only after a later one is durable. So the oldest that is seen is durable, or the run's
        first: and the start, to which a run without a checkpoint goes back, needs nothing that was written.
        """
        return min(self.rounds(), default=0)

    @property
    def is_due(self) -> bool:
        """Whether the policy's minutes are over since the last one, or since the start."""
        return 0 < self._policy.minutes * 60 <= time.monotonic() - self._written

    def save(self, model: nn.Module, round_number: int) -> None:
        """Keep the model after a round; when it is durable, remove what is more than the policy keeps.

        Raises:
            UserError: the model is not finite, so the checkpoints before are better.
            OSError: it cannot be written; the checkpoints before are as they were.
        """
        tensors = model.state_dict()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise UserError(
                f"{self._folder.parent}: the model is not finite after round {round_number}; lower training.lr; "
                "the last checkpoint is kept"
            )
        save_weights(self._path(round_number), tensors, {"round": str(round_number)})
        self._remove([number for number in self._damaged if number != round_number])  # they count for nothing
        self._damaged = []
        self.keep_newest(self._policy.kept)
        self._written = time.monotonic()

    def keep_newest(self, count: int) -> None:
        """Remove all but the newest ``count``."""
        self._remove(self.rounds()[:-count])

    def load_newest(self, model: nn.Module) -> tuple[int, str]:
        """Load the newest one that is whole; newer ones go when the next is durable.

        Returns:
            Its round, 0 where there is none, with ``model`` as it was; and what is wrong with the newest, if anything.

        Raises:
            UserError: there are some, but none can be used; says what is wrong with the newest.
        """
        wrong = ""
        for number in reversed(self.rounds()):
            try:
                self.load(model, number)
            except UserError as error:
                wrong = wrong or str(error)
                self._damaged.append(number)
            else:
                return number, wrong
        if wrong:
            raise UserError(
                f"{wrong}; no checkpoint is whole; remove them from {self._folder}, and --resume begins at round 1"
            )
        return 0, ""

    def load(self, model: nn.Module, round_number: int) -> None:
        """Load the one of a round.

        Raises:
            UserError: missing, damaged, of another round or model.
        """
        path = self._path(round_number)
        tensors, metadata = read_weights(path)
        if metadata.get("round") != str(round_number):
            raise UserError(f"{path}: does not carry the round that its name says")
        load_into(model, tensors, path)

    def sweep(self) -> None:
        """Remove what killed writes left here and beside; nobody else may be writing."""
        for folder in (self._folder, self._folder.parent):
            for path in folder.glob(".*.partial"):
                path.unlink(missing_ok=True)

    def _remove(self, rounds: list[int]) -> None:
        for number in rounds:
            self._path(number).unlink(missing_ok=True)
        if rounds:
            sync_folder(self._folder)

    def _path(self, round_number: int) -> Path:
        return self._folder / f"round-{round_number:05d}.safetensors"
