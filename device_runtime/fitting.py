"""How a head is fitted: a recipe that can be written down and run again, and the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fbkit.device_runtime.head import Head, Mask
from fbkit.device_runtime.manifest import Defaults
from fbkit.device_runtime.solvers.exact import fit_exact
from fbkit.device_runtime.solvers.sgd import EpochListener, Schedule, Step, default_schedule, fit_sgd, numpy_step
from fbkit.device_runtime.solvers.threads import as_needed
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError

Solver = Literal["exact", "sgd"]
Absent = Literal["keep", "mask"]


@dataclass(frozen=True)
class Recipe:
    """How a head is fitted, but for the pictures: it goes into the journal, and is run again when heads are judged.

    Attributes:
        solver: ``exact`` finds the minimum, ``sgd`` follows a schedule.
        absent: what becomes of classes without pictures: with ``keep`` they are part of the softmax as any other class;
            with ``mask`` they have no part in it, their rows do not move, and predictions leave them out.
        penalty: strength of the pull to the shipped head, for a loss that is the sum of the pictures' cross-entropies
            plus penalty / 2 times the squared distance of weight and bias; above 0 for ``exact``.
        schedule: of ``sgd``, with the same penalty; None for ``exact``.
    """

    solver: Solver
    absent: Absent
    penalty: float
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        penalty = None if self.schedule is None else self.schedule.penalty
        if penalty != (self.penalty if self.solver == "sgd" else None):
            raise ValueError("sgd takes a schedule, with the recipe's penalty; exact takes none")

    def to_json(self) -> dict[str, Any]:
        """One flat object, which ``recipe_from_json`` reads."""
        schedule = asdict(self.schedule) if self.schedule else {}
        return {"solver": self.solver, "absent": self.absent, "penalty": self.penalty, **schedule}


DEFAULT_SOLVER: Solver = "exact"


def default_recipe(defaults: Defaults, solver: Solver = DEFAULT_SOLVER) -> Recipe:
    """What the bundle's manifest recommends; its penalty is meant for ``exact``."""
    if solver == "exact":
        return Recipe(solver, "keep", defaults.penalty)
    schedule = default_schedule(defaults)
    return Recipe(solver, "keep", schedule.penalty, schedule)


_Check = tuple[str, Callable[[Any], bool]]


def _whole(least: int, most: int) -> _Check:
    return f"a whole number from {least} to {most}", lambda value: type(value) is int and least <= value <= most


def _number(range_in_words: str, fits: Callable[[float], bool]) -> _Check:
    return f"a number {range_in_words}", lambda value: type(value) in (int, float) and fits(value)


def _one_of(*known: str) -> _Check:
    return f"one of: {', '.join(known)}", lambda value: value in known


_FROM_0 = _number("from 0 to 1e30", lambda value: 0 <= value <= 1e30)
_ABOVE_0 = _number("above 0, at most 1e30", lambda value: 0 < value <= 1e30)
_BELOW_1 = _number("from 0 on, below 1", lambda value: 0 <= value < 1)
_HOW = {"solver": _one_of("exact", "sgd"), "absent": _one_of("keep", "mask")}
_OF_EXACT = {"penalty": _ABOVE_0}
_OF_SGD = {
    "penalty": _FROM_0,
    "epochs": _whole(1, 100_000),
    "lr": _ABOVE_0,
    "momentum": _BELOW_1,
    "batch_size": _whole(1, 1_000_000),
    "seed": _whole(0, 2**64 - 1),
    "weight_decay": _FROM_0,
}


def recipe_from_json(value: Any, origin: str) -> Recipe:
    """Check what should be ``Recipe.to_json``'s; keys that are not a recipe's are passed over.

    Args:
        value: of any type and content.
        origin: for messages.

    Raises:
        UserError: not an object, or a key is missing or has an impossible value.
    """
    if not isinstance(value, dict):
        raise UserError(f"{origin}: must be a JSON object")
    how = _checked(value, _HOW, origin)
    if how["solver"] == "exact":
        return Recipe(**how, penalty=float(_checked(value, _OF_EXACT, origin)["penalty"]))
    schedule = Schedule(**_checked(value, _OF_SGD, origin))
    return Recipe(**how, penalty=schedule.penalty, schedule=schedule)


def _checked(value: dict[str, Any], checks: dict[str, _Check], origin: str) -> dict[str, Any]:
    for key, (what, fits) in checks.items():
        if key not in value:
            raise UserError(f"{origin}: {key} is missing")
        if not fits(value[key]):
            raise UserError(f"{origin}: {key} must be {what}")
    return {key: value[key] for key in checks}


@dataclass(frozen=True)
class Fit:
    """What a fit found.

    Attributes:
        head: as large as the shipped one.
        mask: bool [classes], False for a class that predictions leave out.
        gap: of ``exact``: nats a picture that the objective may still be above its minimum.
        finished: False where the deadline ended the fit.
    """

    head: Head
    mask: Mask
    gap: float | None
    finished: bool


def fit(
    start: Head,
    features: Float,
    labels: Labels,
    recipe: Recipe,
    *,
    step: Step = numpy_step,
    deadline: float | None = None,
    listener: EpochListener | None = None,
    gap: float = 1e-6,
) -> Fit:
    """Fit ``start``, which is left as it is, to all pictures.

    Args:
        start: the shipped head, with a row for each class that the device added; the penalty pulls to it.
        features: float32 [N, F], N at least 1.
        labels: int64 [N].
        step: of ``sgd``: who does the arithmetic.
        deadline: of ``time.monotonic``, in seconds; the iteration or epoch in which it passes is the last.
        listener: called after each iteration or epoch with its number, the head and the mean cross-entropy.
        gap: of ``exact``: the one to reach, in nats a picture.

    Raises:
        UserError: the features are not finite, or the learning rate is too high.
    """
    with as_needed(features.size * len(start.bias)):
        return _fit(start, features, labels, recipe, step, deadline, listener, gap)


def _fit(
    start: Head,
    features: Float,
    labels: Labels,
    recipe: Recipe,
    step: Step,
    deadline: float | None,
    listener: EpochListener | None,
    gap: float,
) -> Fit:
    mask = np.ones(len(start.bias), np.bool_)
    if recipe.absent == "mask":
        mask[:] = False
        mask[labels] = True
    if recipe.schedule is None:
        return _fit_exact(start, features, labels, recipe.penalty, mask, deadline, listener, gap)
    epochs = 0

    def count(epoch: int, head: Head, loss: float) -> None:
        nonlocal epochs
        epochs = epoch
        if listener:
            listener(epoch, head, loss)

    class_mask = None if mask.all() else mask
    head = fit_sgd(start, features, labels, recipe.schedule, step, count, class_mask, deadline)
    return Fit(head, mask, None, finished=epochs == recipe.schedule.epochs)


def _fit_exact(
    start: Head,
    features: Float,
    labels: Labels,
    penalty: float,
    mask: Mask,
    deadline: float | None,
    listener: EpochListener | None,
    gap: float,
) -> Fit:
    """Solved for the rows of the mask alone: without a part in the softmax the others have no reason to move."""
    places = np.cumsum(mask) - 1

    def whole(part: Head) -> Head:
        weight, bias = start.weight.copy(), start.bias.copy()
        weight[mask], bias[mask] = part.weight, part.bias
        return Head(weight, bias)

    def listen(iteration: int, part: Head, loss: float) -> None:
        if listener:
            listener(iteration, whole(part), loss)

    part = Head(start.weight[mask], start.bias[mask])
    found = fit_exact(part, features, places[labels], penalty, gap, listen if listener else None, deadline)
    return Fit(whole(found.head), mask, found.gap, found.finished)
