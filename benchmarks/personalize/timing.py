"""Contenders one after another, again and again: seconds and accuracy after each epoch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fbkit.benchmarks.personalize.contenders import Contender, head_accuracy
from fbkit.benchmarks.personalize.subject import Subject
from fbkit.console import Reporter
from fbkit.device_runtime.fitting import Recipe, default_recipe
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.shuffle import epoch_order
from fbkit.device_runtime.solvers.sgd import Schedule


@dataclass(frozen=True)
class Trail:
    """One turn of a contender: after each epoch, the seconds since decoding ended, and percent of unseen pictures."""

    seconds: tuple[float, ...]
    accuracy: tuple[float, ...]


def take_turns(
    contenders: Mapping[str, Contender],
    subject: Subject,
    schedule: Schedule,
    scratch: Path,
    turns: int,
    reporter: Reporter,
) -> dict[str, list[Trail]]:
    """fbkit with both solvers and ``contenders``, each turn in another order, after one that does not count.

    Args:
        scratch: a folder for profiles, that is removed.
    """
    exact = default_recipe(subject.bundle.manifest.personalization, "exact")
    sgd = Recipe("sgd", "keep", schedule.penalty, schedule)
    ways: dict[str, Callable[[], Trail]] = {
        "fbkit, exact": partial(_fbkit, subject, exact, scratch),
        "fbkit, sgd": partial(_fbkit, subject, sgd, scratch),
        **{name: partial(_follow, way, subject, schedule) for name, way in contenders.items()},
    }
    names = list(ways)
    trails: dict[str, list[Trail]] = {name: [] for name in names}
    with reporter.stage(
        f"contenders at {subject.bundle.manifest.input.height} pixels", (turns + 1) * len(names)
    ) as advance:
        for turn in range(turns + 1):
            for place in epoch_order(len(names), 0, turn + 1).tolist():
                trail = ways[names[place]]()
                if turn:
                    trails[names[place]].append(trail)
                advance(f"{names[place]}: {trail.seconds[-1]:.2f} s")
    return trails


def _follow(way: Contender, subject: Subject, schedule: Schedule) -> Trail:
    """Accuracies are asked for between epochs, while the clock stands."""
    contender = way(subject, schedule)
    seconds: list[float] = []
    accuracies: list[float] = []
    worked = 0.0
    while True:
        began = time.perf_counter()
        accuracy = next(contender, None)
        worked += time.perf_counter() - began
        if accuracy is None:
            return Trail(tuple(seconds), tuple(accuracies))
        seconds.append(worked)
        accuracies.append(accuracy())


def _fbkit(subject: Subject, recipe: Recipe, scratch: Path) -> Trail:
    """The whole call as an app makes it, judging and writing included; only decoding is taken off, as for all."""
    heads: list[tuple[float, Head]] = []
    personalizer = Personalizer(subject.bundle, scratch / "profile")
    began = time.perf_counter()
    result = personalizer.fit(
        subject.personal,
        recipe,
        listener=lambda _epoch, head, _loss: heads.append((time.perf_counter() - began, head)),
    )
    heads.append((time.perf_counter() - began, heads[-1][1]))
    shutil.rmtree(scratch)
    seconds = tuple(at - result.seconds["decode"] for at, _ in heads)
    return Trail(seconds, tuple(head_accuracy(subject, head.weight, head.bias) for _, head in heads))
