"""What stays with clients between rounds: FedPer's heads, Ditto's models. On disk, so memory does not grow.

clients/00000042/round-00007.safetensors    what client 42 kept when it last trained, in round 7

A client that was never sampled has no file. A file is durable before its round ends, and an older one is removed only
once a checkpoint of a later round is durable too, so a killed run finds for every client what it had at the checkpoint.
All workers see the same folder (under torchrun on several machines: the run folder is on a shared file system).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from fbkit.files import sync_folder
from fbkit.train.weights import load_into, read_weights, save_weights

_NAME = re.compile(r"round-([0-9]{5,9})\.safetensors")
_STATISTICS = ("running_mean", "running_var")


@dataclass
class ClientStates:
    """The clients' folder of a run. ``durable_round`` is the newest round whose checkpoint is known to be on disk."""

    folder: Path
    durable_round: int = field(default=0)

    def keep(self, client: int, round_number: int, module: nn.Module) -> None:
        """Store the module's parameters and buffers as the client's after a round."""
        folder = self._of(client)
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder / f"round-{round_number:05d}.safetensors", module.state_dict())
        if is_new:
            sync_folder(self.folder)
        for older in [number for number in self._rounds(client) if number <= self.durable_round][:-1]:
            self._path(client, older).unlink(missing_ok=True)

    def restore(self, client: int, module: nn.Module) -> bool:
        """Load into ``module`` what the client kept last; leave it as it is where the client never trained.

        Returns:
            Whether the client had something.

        Raises:
            UserError: the file is damaged or of another model.
        """
        rounds = self._rounds(client)
        if not rounds:
            return False
        path = self._path(client, rounds[-1])
        tensors, _ = read_weights(path)
        # Static statistics are made after the last round; what a client kept before has none.
        later = {name: value for name, value in module.state_dict().items() if name.endswith(_STATISTICS)}
        load_into(module, later | tensors, path)
        return True

    def has(self, client: int) -> bool:
        return bool(self._rounds(client))

    def forget_after(self, round_number: int) -> None:
        """Go back to a checkpoint's round: remove what was kept later."""
        if not self.folder.exists():
            return
        for path in self.folder.glob("*/round-*.safetensors"):
            match = _NAME.fullmatch(path.name)
            if match and int(match[1]) > round_number:
                path.unlink()

    def _rounds(self, client: int) -> list[int]:
        folder = self._of(client)
        if not folder.exists():
            return []
        return sorted(int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name)))

    def _of(self, client: int) -> Path:
        return self.folder / f"{client:08d}"

    def _path(self, client: int, round_number: int) -> Path:
        return self._of(client) / f"round-{round_number:05d}.safetensors"
