"""One contender: a command in a process of its own, its result, and the memory that it and its children took."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from fbkit.errors import UserError
from fbkit.files import read_json, write_json

# Seconds.
_LOOK_EVERY = 0.25
_LONGEST = 3600  # pfl hangs when one of its processes is killed


@dataclass(frozen=True)
class Contender:
    """Who trains.

    name: for people. command: called with the folders of workload and result, then ``rest``. workload: the folder's
    name. threads: that compute at once, in all its processes.
    """

    name: str
    command: Sequence[str]
    workload: str
    rest: Sequence[str]
    threads: int


@dataclass(frozen=True)
class Outcome:
    """round_seconds and pictures have an entry for each round; weights is None where averaging is left out."""

    startup_seconds: float
    round_seconds: list[float]
    pictures: list[int]
    peak_bytes: int
    weights: dict[str, Tensor] | None
    versions: Mapping[str, str]
    notes: Sequence[str]


def write_result(
    out: Path, startup_seconds: float, seconds: list[float], pictures: list[int], weights: dict[str, Tensor] | None
) -> None:
    """What a contender leaves: weights first, result.json when all is there."""
    out.mkdir(parents=True, exist_ok=True)
    if weights:
        save_file({name: value.contiguous() for name, value in weights.items()}, out / "weights.safetensors")
    result = {"startup_seconds": startup_seconds, "round_seconds": seconds, "pictures": pictures}
    write_json(out / "result.json", result)


def run_contender(contender: Contender, workload: Path, out: Path) -> Outcome:
    """Run it to its end.

    Raises:
        UserError: it failed; its last words are kept in ``out``.log.
    """
    log = out.with_name(f"{out.name}.log")
    command = [*contender.command, str(workload), str(out), *contender.rest]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # of a process; who wants more says so itself
    peak, ends = 0, time.monotonic() + _LONGEST
    with log.open("wb") as words:
        process = subprocess.Popen(command, stdout=words, stderr=words, env=environment, start_new_session=True)
        while process.poll() is None:
            peak = max(peak, _memory_of_session(process.pid))
            time.sleep(_LOOK_EVERY)
            if time.monotonic() > ends:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode or not (out / "result.json").exists():
        raise UserError(f"{contender.name}: ended with {process.returncode} and no result; {log} has its words")
    result: dict[str, Any] = read_json(out / "result.json")
    weights = out / "weights.safetensors"
    return Outcome(
        startup_seconds=result["startup_seconds"],
        round_seconds=result["round_seconds"],
        pictures=result["pictures"],
        peak_bytes=peak,
        weights=load_file(weights) if weights.exists() else None,
        versions=result.get("versions", {}),
        notes=result.get("notes", []),
    )


def _memory_of_session(session: int) -> int:
    """Bytes of the processes of a session and their children, shared pages counted by share (Linux's PSS)."""
    parents: dict[int, int] = {}
    sessions: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            parents[int(entry.name)], sessions[int(entry.name)] = int(fields[1]), int(fields[3])
    chosen = {pid for pid, own in sessions.items() if own == session}
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in chosen} - chosen
        chosen |= children
        grown = bool(children)
    return sum(_memory_of(pid) for pid in chosen)


def _memory_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
