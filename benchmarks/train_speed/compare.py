"""All contenders on one workload, in turns, and what their times say."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import fbkit.benchmarks
from fbkit.benchmarks.train_speed.contender import Contender, Outcome, run_contender
from fbkit.benchmarks.train_speed.workload import BFLOAT16, CHANNELS_LAST, WORKLOAD, Prepared, prepare
from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.data import Batcher
from fbkit.train.models import judge_by

BARE = {1: "bare loop, 1 thread", 2: "bare loop, 2 threads"}
FBKIT = {1: "fbkit, 1 worker", 2: "fbkit, 2 workers"}
FLOWER, PFL = "Flower, 2 actors", "pfl, 2 processes"
SCRIPTS = {FLOWER: "flower_simulation.py", PFL: "pfl_simulation.py"}


def half(name: str) -> str:
    """The same contender in mixed precision."""
    return f"{name}, bfloat16"


@dataclass(frozen=True)
class Goal:
    """A ratio of two contenders' throughputs."""

    one: str
    other: str
    at_least: float


GOALS = (
    Goal(FBKIT[1], BARE[1], 0.95),
    Goal(half(FBKIT[1]), half(BARE[1]), 0.95),
    Goal(FBKIT[2], FBKIT[1], 1.85),
    Goal(half(FBKIT[2]), half(FBKIT[1]), 1.85),
    Goal(FBKIT[2], FLOWER, 4.0),
    Goal(half(FBKIT[2]), FLOWER, 4.0),
    Goal(FBKIT[2], PFL, 2.0),
    Goal(half(FBKIT[2]), PFL, 2.0),
)


@dataclass(frozen=True)
class Measured:
    """A contender over all turns.

    limit: the name of the bare loop with as many threads and the same precision. speeds: pictures a second, one for
    each turn, rounds of warming up left out. accuracy: percent, of the last turn's model; None for the bare loop,
    which makes none that could be compared.
    """

    threads: int
    limit: str
    speeds: tuple[float, ...]
    startup_seconds: float
    peak_bytes: int
    accuracy: float | None
    versions: Mapping[str, str]
    notes: Sequence[str]

    @property
    def speed(self) -> float:
        return float(np.median(self.speeds))


def contenders(rivals: Path | None) -> list[Contender]:
    """fbkit and the bare loop and, where there is a Python that has them, the rivals."""
    own = [sys.executable, "-m"]
    found = [
        Contender(named(name), [*own, f"fbkit.benchmarks.train_speed.{module}"], workload, [str(threads)], threads)
        for named, workload in ((str, WORKLOAD), (half, BFLOAT16))
        for names, module in ((BARE, "bare_loop"), (FBKIT, "fbkit_contender"))
        for threads, name in names.items()
    ]
    if rivals:
        folder = Path(fbkit.benchmarks.__file__).resolve().parent / "rivals"
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; the rivals come with a clone of fbkit, not with the package")
        found += [
            Contender(f"{name}{manner}", [str(rivals), str(folder / script)], workload, [], 2)
            for name, script in SCRIPTS.items()
            for manner, workload in (("", WORKLOAD), (", channels last", CHANNELS_LAST), (", bfloat16", BFLOAT16))
        ]
    return found


def compare(
    out: Path,
    entrants: Sequence[Contender],
    rounds: int,
    warmup_rounds: int,
    turns: int,
    width: int,
    reporter: Reporter,
) -> dict[str, Measured]:
    """Every contender once a turn, each turn in another order, so that a slow minute does not hit always the same."""
    prepared = prepare(out, rounds, warmup_rounds, width)
    outcomes: dict[str, list[Outcome]] = {entrant.name: [] for entrant in entrants}
    with reporter.stage("training", turns * len(entrants)) as advance:
        for turn in range(turns):
            shift = turn * len(entrants) // turns
            for entrant in [*entrants[shift:], *entrants[:shift]]:
                folder = out / "turns" / f"{turn}-{entrant.name.replace(', ', '-').replace(' ', '-')}"
                folder.parent.mkdir(exist_ok=True)
                outcomes[entrant.name].append(run_contender(entrant, out / entrant.workload, folder))
                speed = _speed(outcomes[entrant.name][-1], warmup_rounds)
                reporter.line(f"{entrant.name}: {speed:.0f} pictures/s")
                advance(entrant.name)
    return {
        entrant.name: Measured(
            threads=entrant.threads,
            limit=half(BARE[entrant.threads]) if entrant.workload == BFLOAT16 else BARE[entrant.threads],
            speeds=tuple(_speed(outcome, warmup_rounds) for outcome in outcomes[entrant.name]),
            startup_seconds=float(np.median([outcome.startup_seconds for outcome in outcomes[entrant.name]])),
            peak_bytes=max(outcome.peak_bytes for outcome in outcomes[entrant.name]),
            accuracy=_accuracy(prepared, outcomes[entrant.name][-1]),
            versions=outcomes[entrant.name][-1].versions,
            notes=outcomes[entrant.name][-1].notes,
        )
        for entrant in entrants
    }


def ratio(found: Mapping[str, Measured], one: str, other: str) -> tuple[float, float, float]:
    """Median, smallest and largest ratio of the speeds of two contenders, turn by turn."""
    ratios = np.array(found[one].speeds) / np.array(found[other].speeds)
    return float(np.median(ratios)), float(ratios.min()), float(ratios.max())


def overhead_of_a_round(found: Mapping[str, Measured], name: str, pictures: int) -> float:
    """Seconds that a round of so many pictures takes longer than the bare loop that is its limit."""
    return pictures / found[name].speed - pictures / found[found[name].limit].speed


def _speed(outcome: Outcome, warmup_rounds: int) -> float:
    return sum(outcome.pictures[warmup_rounds:]) / sum(outcome.round_seconds[warmup_rounds:])


def _accuracy(prepared: Prepared, outcome: Outcome) -> float | None:
    """Percent of the test pictures that the model gets right, in mixed batches, normalised by the batch."""
    if outcome.weights is None:
        return None
    model, dataset = prepared.model, prepared.dataset
    model.load_state_dict(outcome.weights)
    judge_by(model, "batch")
    order = torch.randperm(len(dataset.test), generator=torch.Generator().manual_seed(0))
    batcher = Batcher(dataset.mean, dataset.std, 500)
    with torch.inference_mode():
        right = sum(
            int((model(images).argmax(1) == labels).sum()) for images, labels in batcher.plain(dataset.test, order)
        )
    return 100 * right / len(dataset.test)
