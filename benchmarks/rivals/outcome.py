"""How a contender is called, and the result that it leaves."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from workload import Workload, WorkloadError, read_workload


@dataclass(frozen=True)
class Outcome:
    """began: time.time() when the first round began. The lists have an entry for each round."""

    began: float
    round_seconds: list[float]
    pictures: list[int]
    weights: dict[str, NDArray[np.float32]]
    notes: list[str] = field(default_factory=list)


def read_call(arguments: Sequence[str]) -> tuple[Path, Path, Workload]:
    """The folders that the script was called with, and the workload. Ends the process where they are of no use."""
    if len(arguments) != 3:
        refuse(f"usage: python {Path(arguments[0]).name} WORKLOAD OUT")
    folder, out = (Path(argument).absolute() for argument in arguments[1:])
    try:
        workload = read_workload(folder)
        out.mkdir(parents=True, exist_ok=True)
    except (WorkloadError, OSError) as error:
        refuse(str(error))
    return folder, out, workload


def refuse(message: str) -> NoReturn:
    """Say what is wrong in a line and end the process."""
    sys.stderr.write(" ".join(message.split()) + "\n")
    sys.exit(2)


def write_outcome(out: Path, contender: str, packages: Sequence[str], started: float, outcome: Outcome) -> None:
    """Leave result.json and weights.safetensors in ``out``; result.json comes last, when all else is there."""
    result = {
        "contender": contender,
        "versions": {package: version(package) for package in packages},
        "startup_seconds": outcome.began - started,
        "round_seconds": outcome.round_seconds,
        "pictures": outcome.pictures,
        "notes": outcome.notes,
    }
    _write_whole(out / "weights.safetensors", save(outcome.weights))
    _write_whole(out / "result.json", (json.dumps(result, indent=2, allow_nan=False) + "\n").encode())


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data)
    partial.replace(path)
