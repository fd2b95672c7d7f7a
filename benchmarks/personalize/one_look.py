"""fbkit beside the least that anyone can do: decode each picture and pass it through the body, once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from fbkit.benchmarks.personalize.subject import Subject
from fbkit.console import Reporter
from fbkit.device_runtime.body import normalise
from fbkit.device_runtime.fitting import Recipe, default_recipe
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.device_runtime.solvers.sgd import Schedule


@dataclass(frozen=True)
class OneLook:
    """Seconds of a look at all pictures, and for each solver of the whole personalization that followed it."""

    look: tuple[float, ...]
    whole: dict[str, tuple[float, ...]]

    def ratio(self, solver: str) -> float:
        """The median over pairs."""
        return median(whole / look for whole, look in zip(self.whole[solver], self.look, strict=True))


def compare_with_one_look(
    subject: Subject, schedule: Schedule, scratch: Path, pairs: int, reporter: Reporter
) -> OneLook:
    """In turns, after one that does not count.

    Args:
        scratch: where profiles are made, and removed.
    """
    recipes = {
        "exact": default_recipe(subject.bundle.manifest.personalization, "exact"),
        "sgd": Recipe("sgd", "keep", schedule.penalty, schedule),
    }
    looks: list[float] = []
    wholes: dict[str, list[float]] = {name: [] for name in recipes}
    with reporter.stage(f"one look at {subject.bundle.manifest.input.height} pixels", pairs + 1) as advance:
        for pair in range(pairs + 1):
            look = _seconds(partial(_look, subject))
            if pair:
                looks.append(look)
            for name, recipe in recipes.items():
                seconds = _seconds(partial(_personalize, subject, recipe, scratch))
                shutil.rmtree(scratch)
                if pair:
                    wholes[name].append(seconds)
            advance(f"{look:.2f} s")
    return OneLook(tuple(looks), {name: tuple(seconds) for name, seconds in wholes.items()})


def _look(subject: Subject) -> None:
    """In the batches that fbkit takes, since a batch of all pictures would take more memory than a device has."""
    bundle, paths = subject.bundle, sorted(subject.personal.glob("*/*"))
    at_once = bundle.manifest.input.at_once
    for first in range(0, len(paths), at_once):
        bundle.features([bundle.decode(path.read_bytes()) for path in paths[first : first + at_once]])


def _personalize(subject: Subject, recipe: Recipe, scratch: Path) -> None:
    Personalizer(subject.bundle, scratch).fit(subject.personal, recipe)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@dataclass(frozen=True)
class Prediction:
    """Seconds of one picture, medians: decoding and body alone, the body's share of that, and the whole call."""

    look: float
    body: float
    whole: float

    @property
    def overhead(self) -> float:
        """What head, softmax and bookkeeping add, as a share of the body's own time."""
        return (self.whole - self.look) / self.body


def time_predictions(subject: Subject, scratch: Path) -> Prediction:
    """Every picture that was learned from alone, with a personal head, beside decoding and body alone."""
    bundle = subject.bundle
    personalizer = Personalizer(bundle, scratch)
    personalizer.fit(subject.personal)
    works: dict[str, Callable[[Path], object]] = {
        "look": lambda path: bundle.features([bundle.decode(path.read_bytes())]),
        "body": lambda path: bundle.body.features(images[path]),
        "whole": personalizer.predict,
    }
    paths = sorted(subject.personal.glob("*/*"))
    images = {path: normalise(bundle.decode(path.read_bytes())[None], bundle.manifest.input) for path in paths}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number, path in enumerate(paths):
        for place in range(3):  # in another order for each, as what came before leaves its traces in the caches
            name = list(works)[(place + number) % 3]
            seconds[name].append(_seconds(partial(works[name], path)))
    shutil.rmtree(scratch)
    return Prediction(**{name: median(taken) for name, taken in seconds.items()})
