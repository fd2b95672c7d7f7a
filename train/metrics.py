"""A run's figures over time: JSON lines for programs, TensorBoard events for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fbkit.errors import UserError
from fbkit.files import write_atomic
from fbkit.train.event_file import EventFile
from fbkit.train.growing_file import GrowingFile


class MetricsLog:
    """Appends to ``metrics.jsonl`` and ``tensorboard/`` in a run folder.

    A round is seen by who follows the files as soon as it is written. It outlives a power cut only after ``sync``,
    which would cost more than a short round.

    A resumed run forgets the rounds after its checkpoint, since it will write them again.

    Raises:
        OSError: from all methods; it names the file.
    """

    def __init__(self, folder: Path, after_round: int) -> None:
        path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(folder) if line["round"] <= after_round]
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._lines = GrowingFile(path)
        self._events = EventFile(folder / "tensorboard", first_step=after_round + 1)

    def write(self, round_number: int, values: dict[str, float]) -> None:
        """Record flat ``values`` of a round."""
        self._lines.write((json.dumps({"round": round_number, **values}) + "\n").encode())
        self._events.write(round_number, values)

    def sync(self) -> None:
        """Make what was written durable: before a checkpoint, which must not be ahead of the figures."""
        self._lines.sync()

    def close(self) -> None:
        self._lines.close()
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
