"""What was measured of a cell, and figures over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fbkit.benchmarks.paper.cells import Cell, Scale
from fbkit.benchmarks.paper.wanted import PAPER_TUNING
from fbkit.train.records import Accuracies, PersonalizedAccuracies, PooledAccuracies

Values = npt.NDArray[np.float64]  # one for each seed


@dataclass(frozen=True)
class Measured:
    """One trained cell. ``tuned`` is by part, learning rate and epochs; ``seconds`` is the wall time of its rounds."""

    run: str
    initial: Accuracies
    own_part: str
    without_own: int
    templates: Accuracies | None
    pooled: PooledAccuracies | None
    tuned: Mapping[tuple[str, float, int], PersonalizedAccuracies]
    seconds: float


Pick = Callable[[Measured], float]


def initial(measured: Measured) -> float:
    return measured.initial.mean


def personalized(measured: Measured) -> float:
    return measured.tuned[PAPER_TUNING.part, PAPER_TUNING.lr, PAPER_TUNING.epochs[0]].mean


def templates(measured: Measured) -> float:
    assert measured.templates  # noqa: S101  for the type checker: the question asked for it
    return measured.templates.mean


def tuned(part: str, lr: float, epochs: int) -> Pick:
    """After so many epochs of fine-tuning; 0 for before it."""
    return lambda measured: measured.tuned[part, lr, epochs].mean if epochs else measured.initial.mean


def pooled(what: str) -> Pick:
    """``accuracy``, ``template`` or ``probe``, on everybody's pictures in one pool."""
    return lambda measured: float(getattr(measured.pooled, what))


@dataclass(frozen=True)
class Results:
    """All cells of a question."""

    scale: Scale
    cells: Mapping[Cell, Measured]

    def values(self, cell: Cell, pick: Pick) -> Values:
        """A figure of the cell, for each of the scale's seeds."""
        return np.array([pick(self.cells[replace(cell, seed=seed)]) for seed in self.scale.seeds])


def deviation(values: Values) -> float:
    """Standard deviation over seeds (of a sample, so divided by one less than there are); 0 for a single seed."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def spread(values: Values) -> str:
    """Mean and standard deviation over seeds, for people."""
    return f"{values.mean():.1f}" + (f" ± {deviation(values):.1f}" if len(values) > 1 else "")


def change(values: Values) -> str:
    """The same for a difference."""
    return f"{values.mean():+.1f}" + (f" ± {deviation(values):.1f}" if len(values) > 1 else "")
