"""Each size in turn, and what it cost."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.files import read_json

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Cost:
    """What a number of clients cost.

    peak_bytes: most memory of the process, at any time. index_bytes: of the arrays that say which pictures are whose.
    round_seconds: median of a round after the first few. pictures_per_second: the same. setup_seconds: all but the
    rounds.
    """

    clients: int
    peak_bytes: int
    index_bytes: int
    round_seconds: float
    pictures_per_second: float
    setup_seconds: float

    @property
    def other_bytes(self) -> int:
        return self.peak_bytes - self.index_bytes


def measure(sizes: Sequence[int], rounds: int, turns: int, out: Path, reporter: Reporter) -> list[Cost]:
    """Every size once a turn; the smallest peak and the medians over turns."""
    found: dict[int, list[Cost]] = {size: [] for size in sizes}
    with reporter.stage("training", turns * len(sizes)) as advance:
        for turn in range(turns):
            for size in sizes if turn % 2 == 0 else reversed(sizes):
                found[size].append(_one(size, rounds, out / f"{size}-{turn}"))
                advance(f"{size:,} clients")
    return [
        Cost(
            size,
            min(cost.peak_bytes for cost in costs),
            costs[0].index_bytes,
            *(float(np.median([getattr(cost, name) for cost in costs])) for name in _TIMES),
        )
        for size, costs in found.items()
    ]


_TIMES = ("round_seconds", "pictures_per_second", "setup_seconds")


def _one(size: int, rounds: int, out: Path) -> Cost:
    out.mkdir(parents=True)
    command = [sys.executable, "-m", "fbkit.benchmarks.scale.one_size", str(size), str(rounds), str(out)]
    with (out / "log.txt").open("wb") as log:
        code = subprocess.call(command, stdout=log, stderr=log)
    if code:
        raise UserError(f"{size} clients: the training ended with {code}; {out / 'log.txt'} has its words")
    result = read_json(out / "result.json")
    warm = len(result["round_seconds"]) // 5
    return Cost(
        size,
        result["peak_bytes"],
        result["index_bytes"],
        float(np.median(result["round_seconds"][warm:])),
        float(np.median(result["pictures_per_second"][warm:])),
        result["setup_seconds"],
    )


def write_csv(costs: Sequence[Cost], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [field.name for field in fields(Cost)]
        writer.writerow(names)
        writer.writerows([getattr(cost, name) for name in names] for cost in costs)


def draw(costs: Sequence[Cost], path: Path) -> None:
    """Memory and the time of a round against the number of clients."""
    clients = [cost.clients for cost in costs]
    with plotting.style():
        figure = Figure(figsize=(10, 3.8), layout="constrained")
        memory, time = figure.subplots(1, 2)
        mib = 2**20
        memory.stackplot(
            clients,
            [cost.other_bytes / mib for cost in costs],
            [cost.index_bytes / mib for cost in costs],
            labels=["everything else", "which pictures are whose"],
            colors=plotting.COLOURS[:2],
            alpha=0.75,
        )
        memory.legend(loc="upper left")
        memory.set_ylim(0, 1.5 * max(cost.peak_bytes for cost in costs) / mib)
        plotting.label(memory, "clients", "most memory, MiB")
        time.plot(clients, [1000 * cost.round_seconds for cost in costs], marker="o", **plotting.line(0, "a round"))
        time.set_ylim(0, 1.5 * max(1000 * cost.round_seconds for cost in costs))
        plotting.label(time, "clients", "a round of 50 clients, ms")
        for axes in (memory, time):
            axes.set_xscale("log")
    plotting.save(figure, path)
