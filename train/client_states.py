"""What stays with clients between rounds: FedPer's heads, Ditto's models. On disk, so memory does not grow.

clients/00000042/round-00007.safetensors    what client 42 kept when it last trained, in round 7

A client that was never sampled has no file. Which file counts is not read from the folder but known from the cohorts,
which follow from the seed: a file of a round that a killed run did not finish is not looked at, and a missing one is
noticed. A file is durable before its round ends, and an older one is removed only once no checkpoint that is kept needs
it. All workers see the same folder (under torchrun on several machines: on a shared file system).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from fbkit.errors import UserError
from fbkit.files import sync_folder
from fbkit.train.weights import load_into, read_weights, save_weights

_NAME = re.compile(r"round-([0-9]{5,9})\.safetensors")
_STATISTICS = ("running_mean", "running_var")


@dataclass
class ClientStates:
    """The clients' folder of a run.

    last: the round in which each client trained last, for those that did. durable_round: the round of the oldest
    checkpoint that is kept. A run may go back to it or to a later one, but to none before.
    """

    folder: Path
    last: dict[int, int] = field(default_factory=dict)
    durable_round: int = 0

    def note(self, cohort: Iterable[int], round_number: int) -> None:
        """Remember that a round is over; every worker does, for every client of its cohort."""
        self.last.update(dict.fromkeys(cohort, round_number))

    def keep(self, client: int, round_number: int, module: nn.Module) -> None:
        """Store the module's parameters and buffers as the client's after a round.

        Raises:
            UserError: some are not finite.
        """
        tensors = module.state_dict()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise UserError(
                f"client {client}'s own part is not finite after round {round_number}; lower training.lr"
                " (for ditto also training.pull)"
            )
        folder = self._of(client)
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self._path(client, round_number), tensors)
        if is_new:
            sync_folder(self.folder)
        for older in [number for number in self._rounds(client) if number <= self.durable_round][:-1]:
            self._path(client, older).unlink(missing_ok=True)

    def restore(self, client: int, module: nn.Module) -> bool:
        """Load into ``module`` what the client kept last; leave it as it is where the client never trained.

        Returns:
            Whether the client had something.

        Raises:
            UserError: the file is missing, damaged or of another model.
        """
        if client not in self.last:
            return False
        path = self._path(client, self.last[client])
        tensors, _ = read_weights(path)
        # Static statistics are made after the last round; what a client kept before has none.
        later = {name: value for name, value in module.state_dict().items() if name.endswith(_STATISTICS)}
        load_into(module, later | tensors, path)
        return True

    def has(self, client: int) -> bool:
        return client in self.last

    def tidy(self) -> None:
        """After the last checkpoint: remove all but what counts."""
        for client, last in self.last.items():
            folder = self._of(client)
            for path in folder.iterdir() if folder.exists() else ():
                if path != self._path(client, last):
                    path.unlink(missing_ok=True)

    def _rounds(self, client: int) -> list[int]:
        return sorted(int(match[1]) for path in self._of(client).iterdir() if (match := _NAME.fullmatch(path.name)))

    def _of(self, client: int) -> Path:
        return self.folder / f"{client:08d}"

    def _path(self, client: int, round_number: int) -> Path:
        return self._of(client) / f"round-{round_number:05d}.safetensors"
