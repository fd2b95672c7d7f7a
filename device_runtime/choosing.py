"""Fitting a head to what is remembered, and deciding whether it is taken into use."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fbkit.device_runtime.fitting import Fit, Recipe, fit, recipe_from_json
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.judging import Verdict, judge
from fbkit.device_runtime.looking import Clock
from fbkit.device_runtime.profile import Memory, Profile
from fbkit.device_runtime.profile.memory import Rows
from fbkit.device_runtime.solvers.sgd import EpochListener, Step, numpy_step
from fbkit.errors import UserError


@dataclass(frozen=True)
class Task:
    """How to fit.

    Attributes:
        step: of SGD: who computes a step.
        listener: called after each epoch or iteration with its number, the head and the training loss.
        seconds: what solving and judging may take together; None for as long as they need.
    """

    recipe: Recipe
    step: Step = numpy_step
    listener: EpochListener | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Present:
    """How the head in use was fitted, and to which of the pictures that are remembered now: bool [N]."""

    recipe: Recipe
    rows: Rows


@dataclass(frozen=True)
class Solved:
    """A candidate, what was decided on it, and the shipped head as large as it."""

    recipe: Recipe
    candidate: Fit
    verdict: Verdict
    shipped: Head

    def note(self) -> dict[str, Any]:
        """For the journal, whose format has no ``correct``."""
        return {key: value for key, value in asdict(self.verdict).items() if key != "correct"}


def present_head(profile: Profile, memory: Memory) -> Present | None:
    """None where the shipped head is in use.

    Raises:
        UserError: the profile holds no recipe for it.
    """
    entry = profile.state.head_in_use()
    if entry is None:
        return None
    recipe = recipe_from_json(entry.recipe, f"{profile.folder}: recipe of {entry.file}")
    return Present(recipe, memory.numbers <= entry.seen)


def solve(shipped: Head, classes: int, memory: Memory, present: Present | None, task: Task, clock: Clock) -> Solved:
    """Fit a candidate to all of ``memory``, and judge it.

    Args:
        shipped: the bundle's head.
        classes: how many there are, the device's own among them.

    Raises:
        UserError: nothing is remembered.
    """
    if not len(memory):
        raise UserError("there are no pictures to fit a head to; add some first")
    chances = np.ones(classes, np.bool_)
    own = np.arange(len(shipped.bias), classes)
    chances[own] = np.isin(own, memory.labels)  # a class that nobody has seen a picture of is not predicted
    start = shipped.grown(chances)
    deadline = middle = None
    if task.seconds is not None:
        middle, deadline = (time.monotonic() + part * task.seconds for part in (0.5, 1.0))
    candidate = fit(
        start,
        memory.features,
        memory.labels,
        task.recipe,
        step=task.step,
        deadline=middle,
        listener=task.listener,
    )
    clock.lap("solver")
    before = None if present is None else (present.recipe, present.rows)
    verdict = judge(start, memory.features, memory.labels, task.recipe, before, deadline=deadline)
    clock.lap("judging")
    return Solved(task.recipe, candidate, verdict, start)


def take(profile: Profile, solved: Solved) -> None:
    """Do as was decided."""
    recipe, note = solved.recipe.to_json(), solved.note()
    if solved.verdict.chosen == "present":
        profile.keep_in_use(recipe, note)
    elif solved.verdict.chosen == "shipped":
        profile.take_into_use(None, recipe, note)
    else:
        profile.take_into_use(solved.candidate.head.without(~solved.candidate.mask), recipe, note)
