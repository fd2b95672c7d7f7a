"""What is compared: algorithms, seeds, targets, precisions, solvers, pictures a class."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from fbkit.benchmarks.convergence.result import ALL
from fbkit.device_runtime.fitting import Recipe, default_recipe
from fbkit.device_runtime.manifest import PRECISIONS, Defaults
from fbkit.device_runtime.solvers.sgd import default_schedule
from fbkit.errors import UserError

TARGETS = ("onnx", "executorch")
MOST_PICTURES = 10_000


def learning_rate(solver: str) -> float | None:
    """Of ``sgd:RATE``; None for ``sgd``, which takes the bundle's.

    Raises:
        UserError: no such solver.
    """
    if solver == "sgd":
        return None
    found = re.fullmatch(r"sgd:(\d+(?:\.\d+)?(?:e-?\d+)?|\.\d+)", solver)
    rate = float(found[1]) if found else 0.0
    if not 1e-9 <= rate <= 1e3:
        raise UserError(f"--solver {solver}: known are exact, nearest, sgd, and sgd:RATE such as sgd:0.01")
    return rate


@dataclass(frozen=True)
class Plan:
    """Attributes:
    algorithms: whose bodies are trained for the comparison; not where runs or bundles are given.
    seeds: runs of each.
    settings: changes to their recipe.
    targets, precisions: to export to.
    solvers: as ``Curve.solver``.
    per_class: numbers of pictures a class; 0 for all there are.
    epochs: of SGD; None for what each bundle recommends.
    native: folder of the native runner, which then runs the .pte bundles, too.
    """

    algorithms: tuple[str, ...] = ("fedavg", "fedbabu")
    seeds: int = 3
    settings: tuple[str, ...] = ()
    targets: tuple[str, ...] = TARGETS
    precisions: tuple[str, ...] = ("fp32",)
    solvers: tuple[str, ...] = ("sgd", "exact")
    per_class: tuple[int, ...] = (1, 5, 20)
    epochs: int | None = None
    native: Path | None = None

    def __post_init__(self) -> None:
        """Raise UserError for what cannot be asked for."""
        for target in self.targets:
            if target not in TARGETS:
                raise UserError(f"--target {target}: known are {' and '.join(TARGETS)}")
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise UserError(f"--precision {precision}: known are {' and '.join(PRECISIONS)}")
        for solver in self.solvers:
            if solver not in ("nearest", "exact"):
                learning_rate(solver)
        for count in self.per_class:
            if not (count == ALL or 0 < count <= MOST_PICTURES):
                raise UserError(f"--pictures {count}: must be from 1 to {MOST_PICTURES:,} pictures a class")
        if self.native and not (self.native / "fbkit-device").is_file():
            raise UserError(f"{self.native / 'fbkit-device'}: no such program; make it with: make native")


EVERYTHING = Plan(
    algorithms=("fedavg", "fedbabu", "fedper", "fedrep"),
    precisions=PRECISIONS,
    solvers=("sgd", "sgd:0.001", "sgd:0.01", "sgd:0.1", "exact", "nearest"),
    per_class=(1, 2, 5, 10, 20, 50),
)


def chosen(plan: Plan, **given: object) -> Plan:
    """The plan with what was given instead, where something was."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items() if value}
    return replace(plan, **values)  # type: ignore[arg-type]


def recipe_of(solver: str, defaults: Defaults, epochs: int | None) -> Recipe:
    """How a solver fits, but for ``nearest``."""
    if solver == "exact":
        return default_recipe(defaults)
    schedule, rate = default_schedule(defaults), learning_rate(solver)
    schedule = replace(schedule, epochs=epochs or schedule.epochs, lr=rate or schedule.lr)
    return Recipe("sgd", "keep", schedule.penalty, schedule)
