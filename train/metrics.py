"""A run's figures over time: JSON lines for programs, TensorBoard events for people."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from fbkit.errors import UserError
from fbkit.files import write_atomic


class MetricsLog:
    """Appends to ``metrics.jsonl`` and ``tensorboard/`` in a run folder.

    A resumed run forgets the rounds after its checkpoint, since it will write them again.
    """

    def __init__(self, folder: Path, after_round: int) -> None:
        self._path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(folder) if line["round"] <= after_round]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=after_round + 1)

    def write(self, round_number: int, values: dict[str, float]) -> None:
        """Record flat ``values`` of a round."""
        with self._path.open("a") as file:
            file.write(json.dumps({"round": round_number, **values}) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a checkpoint may follow, and it outlives a power cut
        for name, value in values.items():
            self._events.add_scalar(name, value, round_number)

    def close(self) -> None:
        self._events.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics; a last line cut short by a crash is left out.

    Raises:
        UserError: another line is not a JSON object with a round.
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(errors="replace").splitlines()
    result = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            if not isinstance(value, dict) or type(value.get("round")) is not int:
                raise ValueError("not an object with a round")
        except ValueError as error:
            if number == len(lines):
                break
            raise UserError(f"{path}: line {number} is broken ({error})") from error
        result.append(value)
    return result
