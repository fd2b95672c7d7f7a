"""Curves that belong together, and what they say together: means, confidence bands, how soon most of it is reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fbkit.benchmarks.convergence.result import ConvergenceResult, Curve, Subject

Double = npt.NDArray[np.float64]
Axis = Literal["epochs", "steps", "seen", "seconds"]
What = Literal["accuracy", "loss"]

SHARES = (0.90, 0.95, 0.99)  # of the final accuracy
_CONFIDENCE = 0.95
_DRAWS = 1000
_MOST_POINTS = 80  # of a line


@dataclass(frozen=True)
class Group:
    """The curves of one source, target, precision, solver and number of pictures: a curve for each seed and client."""

    source: str
    target: str
    precision: str
    solver: str
    per_class: int
    curves: tuple[Curve, ...]
    seeds: tuple[int, ...]

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        return self.source, self.target, self.precision, self.solver, self.per_class

    @property
    def pictures_in_words(self) -> str:
        return str(self.per_class) if self.per_class else "all"


def group(result: ConvergenceResult) -> list[Group]:
    """In the order in which they first come."""
    found: dict[tuple[str, str, str, str, int], list[tuple[Curve, Subject]]] = {}
    for curve in result.curves:
        of = result.subjects[curve.subject]
        key = of.source, of.target, of.precision, curve.solver, curve.per_class
        found.setdefault(key, []).append((curve, of))
    return [
        Group(*key, tuple(curve for curve, _ in members), tuple(subject.seed for _, subject in members))
        for key, members in found.items()
    ]


@dataclass(frozen=True)
class Line:
    """A mean over clients and seeds along an axis, and the band that holds it with a confidence of 95%."""

    across: Double
    mean: Double
    low: Double
    high: Double


def line_of(group: Group, axis: Axis, what: What = "accuracy") -> Line | None:
    """None for the loss of a solver that has none.

    A curve holds its value until its next point, and its last one for ever: a device uses the head it has.
    """
    curves = group.curves
    if what == "loss" and any(curve.loss is None for curve in curves):
        return None
    places = [np.array(getattr(curve, axis), np.float64) for curve in curves]
    across = _grid(places, axis)
    rows = []
    for curve, place in zip(curves, places, strict=True):
        values = np.array(getattr(curve, what), np.float64)
        rows.append(values[np.searchsorted(place, across, side="right") - 1])
    table = np.array(rows)
    low, high = confidence(table, group.seeds)
    return Line(across, table.mean(0), low, high)


def _grid(places: Sequence[Double], axis: Axis) -> Double:
    """Where anything changes, or as many of these places as a line needs."""
    if axis == "seconds":
        first = min(float(place[1]) for place in places if len(place) > 1) if max(map(len, places)) > 1 else 1e-3
        last = max(float(place[-1]) for place in places)
        return np.geomspace(first / 2, max(last, first) * 1.1, _MOST_POINTS)
    union = np.unique(np.concatenate(places))
    if len(union) > _MOST_POINTS:
        union = union[np.linspace(0, len(union) - 1, _MOST_POINTS).round().astype(int)]
    return union


def confidence(table: Double, seeds: Sequence[int]) -> tuple[Double, Double]:
    """A bootstrap interval of the mean over rows: seeds are drawn again, then clients within each.

    Args:
        table: float64 [rows, points], a row for each client of each seed.
        seeds: of each row.

    Returns:
        The 2.5th and the 97.5th percentile, each [points].
    """
    rng = np.random.default_rng(0)
    by_seed = [np.flatnonzero(np.array(seeds) == seed) for seed in dict.fromkeys(seeds)]
    chosen = rng.multinomial(len(by_seed), np.full(len(by_seed), 1 / len(by_seed)), size=_DRAWS)
    weights = np.zeros((_DRAWS, len(table)))
    for rows, times in zip(by_seed, chosen.T, strict=True):
        weights[:, rows] = rng.multinomial(times * len(rows), np.full(len(rows), 1 / len(rows))) / len(rows)
    weights /= weights.sum(1, keepdims=True)
    tail = 100 * (1 - _CONFIDENCE) / 2
    low, high = np.percentile(weights @ table, (tail, 100 - tail), axis=0)
    return low, high


@dataclass(frozen=True)
class Lead:
    """How far one group ends above another, on the clients of both: points of accuracy, with its 95% interval."""

    mean: float
    low: float
    high: float
    clients: int

    @property
    def is_noise(self) -> bool:
        return self.low <= 0 <= self.high


def lead(group: Group, other: Group) -> Lead | None:
    """None where they have no client of the same seed in common."""
    theirs = {(seed, curve.client): curve for seed, curve in zip(other.seeds, other.curves, strict=True)}
    mine = [(seed, curve) for seed, curve in zip(group.seeds, group.curves, strict=True)]
    pairs = [(seed, curve, theirs[seed, curve.client]) for seed, curve in mine if (seed, curve.client) in theirs]
    if not pairs:
        return None
    gaps = np.array([[curve.accuracy[-1] - against.accuracy[-1]] for _, curve, against in pairs])
    low, high = confidence(gaps, [seed for seed, _, _ in pairs])
    return Lead(float(gaps.mean()), float(low[0]), float(high[0]), len(pairs))


@dataclass(frozen=True)
class Reached:
    """What it took to reach a share of the final accuracy: medians over clients and seeds."""

    epochs: float
    steps: float
    seconds: float


@dataclass(frozen=True)
class Summary:
    """A group in a few numbers.

    Attributes:
        clients: curves, so clients of all seeds.
        pictures: mean over clients.
        shipped, final: accuracy in percent before and afterwards, means over clients.
        low, high: confidence interval of ``final``.
        spread: standard deviation of the final accuracy over clients.
        worst: mean final accuracy of the tenth of the clients that has the lowest.
        shipped_loss, final_loss: nats; None for a solver without probabilities.
        reached: for each of ``SHARES``.
        features_seconds, seconds: until the features were there, and until the end; medians over clients.
    """

    clients: int
    pictures: float
    shipped: float
    final: float
    low: float
    high: float
    spread: float
    worst: float
    shipped_loss: float | None
    final_loss: float | None
    reached: tuple[Reached, ...]
    features_seconds: float | None
    seconds: float


def summarize(group: Group) -> Summary:
    curves = group.curves
    finals = np.array([curve.accuracy[-1] for curve in curves])
    low, high = confidence(finals[:, None], group.seeds)
    losses = [(curve.loss[0], curve.loss[-1]) for curve in curves if curve.loss is not None]
    features = [curve.features_seconds for curve in curves if curve.features_seconds is not None]
    worst = np.sort(finals)[: max(1, len(finals) // 10)]
    return Summary(
        clients=len(curves),
        pictures=float(np.mean([curve.pictures for curve in curves])),
        shipped=float(np.mean([curve.accuracy[0] for curve in curves])),
        final=float(finals.mean()),
        low=float(low[0]),
        high=float(high[0]),
        spread=float(finals.std()),
        worst=float(worst.mean()),
        shipped_loss=float(np.mean([first for first, _ in losses])) if losses else None,
        final_loss=float(np.mean([last for _, last in losses])) if losses else None,
        reached=tuple(_reached(curves, share) for share in SHARES),
        features_seconds=float(np.median(features)) if features else None,
        seconds=float(np.median([curve.seconds[-1] for curve in curves])),
    )


def _reached(curves: Sequence[Curve], share: float) -> Reached:
    """The first point from which on nothing falls below the share again."""
    places = []
    for curve in curves:
        below = np.flatnonzero(np.array(curve.accuracy) < share * curve.accuracy[-1])
        places.append(int(below[-1]) + 1 if len(below) else 0)
    pairs = list(zip(curves, places, strict=True))
    return Reached(
        epochs=float(np.median(places)),
        steps=float(np.median([curve.steps[place] for curve, place in pairs])),
        seconds=float(np.median([curve.seconds[place] for curve, place in pairs])),
    )
