"""Two results of one kind: what moved beyond noise, and whether that is a regression."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist, median

import numpy as np
import numpy.typing as npt

from fbkit.benchmarks.convergence.groups import Group, group
from fbkit.benchmarks.convergence.result import ConvergenceResult, Curve
from fbkit.benchmarks.device.result import DeviceResult, Latency
from fbkit.benchmarks.report.reading import Result
from fbkit.errors import UserError

Double = npt.NDArray[np.float64]
_DRAWS = 10_000
_CONFIDENCE = 0.95  # of all intervals together
_FAR = 1e3  # standard errors
_NORMAL_95TH = NormalDist().inv_cdf(0.95)
_MEDIAN_ERROR = 1.2533  # standard error of a median over that of a mean, of normal values


@dataclass(frozen=True)
class Change:
    """One quantity in both results.

    Attributes:
        what: with what it is measured on.
        before, after: means (of times: medians).
        unit: of these.
        low, high: interval of the change: points of accuracy, else a percentage of ``before``. It is so wide that all
            intervals of a comparison together hold with 95% (Bonferroni): of many quantities, some always seem to move.
        pairs: how many values there were of each.
        higher_is_better: so that ``worse`` can be told.
        threshold: what is too small to matter, in the unit of ``low`` and ``high``.
    """

    what: str
    before: float
    after: float
    unit: str
    low: float
    high: float
    pairs: int
    higher_is_better: bool
    threshold: float

    @property
    def change(self) -> float:
        if self.unit == "%":
            return self.after - self.before
        return 100 * (self.after / self.before - 1)

    @property
    def moved(self) -> bool:
        """Whether zero lies outside the interval."""
        return self.low > 0 or self.high < 0

    @property
    def worse(self) -> bool:
        return self.high < 0 if self.higher_is_better else self.low > 0

    @property
    def regressed(self) -> bool:
        """Whether it is worse beyond noise, and by more than the threshold."""
        return self.worse and abs(self.change) > self.threshold


def compare(before: Result, after: Result, points: float, percent: float) -> list[Change]:
    """What both results measured, and how far apart that is.

    Args:
        points: of accuracy that are too few to matter.
        percent: of time or memory, likewise.

    Raises:
        UserError: they are of different benchmarks, or have nothing in common.
    """
    if isinstance(before, ConvergenceResult) and isinstance(after, ConvergenceResult):
        quantities = list(_of_curves(before, after, points, percent))
    elif isinstance(before, DeviceResult) and isinstance(after, DeviceResult):
        quantities = list(_of_devices(before, after, points, percent))
    else:
        raise UserError("one is a result of fbkit bench convergence, the other of fbkit bench device; compare like")
    if not quantities:
        raise UserError("the two results have nothing in common: no body, solver, client or setting is in both")
    tail = (1 - _CONFIDENCE) / 2 / len(quantities)
    return [quantity(tail) for quantity in quantities]


Quantity = Callable[[float], Change]  # takes what the interval leaves out on each side


def _of_curves(
    before: ConvergenceResult, after: ConvergenceResult, points: float, percent: float
) -> Iterator[Quantity]:
    """Client by client: the pairs are of the same seed, body, target, solver and pictures."""
    olds = {each.key: each for each in group(before)}
    times = not (before.machine.emulated or after.machine.emulated)
    for new in group(after):
        if new.key not in olds:
            continue
        pairs = list(_pairs(olds[new.key], new))
        if not pairs:
            continue
        name = f"{new.source}, {new.target} {new.precision}, {new.solver}, {new.pictures_in_words} a class"

        def paired(
            pick: Callable[[Curve], float], pairs: Sequence[tuple[Curve, Curve]] = pairs
        ) -> tuple[Double, Double]:
            return np.array([pick(old) for old, _ in pairs]), np.array([pick(now) for _, now in pairs])

        yield partial(_points, f"accuracy afterwards: {name}", *paired(lambda curve: curve.accuracy[-1]), points)
        yield partial(
            _points, f"accuracy on the way: {name}", *paired(lambda curve: float(np.mean(curve.accuracy))), points
        )
        timed = [pair for pair in pairs if all(curve.seconds[-1] > 0 for curve in pair)]  # a head that was never moved
        if times and timed:
            yield partial(_ratio, f"time: {name}", *paired(lambda curve: curve.seconds[-1], timed), percent)


def _pairs(old: Group, new: Group) -> Iterator[tuple[Curve, Curve]]:
    known = {(seed, curve.client): curve for seed, curve in zip(old.seeds, old.curves, strict=True)}
    for seed, curve in zip(new.seeds, new.curves, strict=True):
        if (seed, curve.client) in known:
            yield known[seed, curve.client], curve


def _points(what: str, old: Double, new: Double, threshold: float, tail: float) -> Change:
    low, high = interval(new - old, tail)
    return Change(what, float(old.mean()), float(new.mean()), "%", low, high, len(old), True, threshold)


def _ratio(what: str, old: Double, new: Double, threshold: float, tail: float) -> Change:
    low, high = (100 * math.expm1(min(edge, 10.0)) for edge in interval(np.log(new / old), tail))
    before, after = 1000 * float(np.median(old)), 1000 * float(np.median(new))
    return Change(what, before, after, "ms", low, high, len(old), False, threshold)


@np.errstate(divide="ignore", invalid="ignore")  # a draw of equal values has no error
def interval(values: Double, tail: float) -> tuple[float, float]:
    """Bootstrap-t interval of the mean (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5).

    Taking percentiles of drawn means alone gives too narrow an interval of few values. Of a single value nothing is
    known but that value.

    Args:
        values: float64 [N].
        tail: what the interval leaves out on each side.
    """
    mean = float(values.mean())
    if len(values) == 1 or np.ptp(values) == 0:
        return mean, mean
    drawn = values[np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))]
    errors = drawn.std(1, ddof=1) / math.sqrt(len(values))
    ratios = np.nan_to_num((drawn.mean(1) - mean) / errors, nan=0.0, posinf=_FAR, neginf=-_FAR)
    low, high = np.quantile(ratios, (tail, 1 - tail))
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - float(high) * error, mean - float(low) * error


def _of_devices(before: DeviceResult, after: DeviceResult, points: float, percent: float) -> Iterator[Quantity]:
    if before.machine.emulated == after.machine.emulated is False:
        yield from _times(before, after, percent)
    known = {learned.solver: learned for learned in before.learning}
    for learned in after.learning:
        if learned.solver in known and before.subject.digest == after.subject.digest:
            old, new = (np.array([each.points[-1].accuracy]) for each in (known[learned.solver], learned))
            yield partial(_points, f"accuracy afterwards: {learned.solver}", old, new, points)


def _times(before: DeviceResult, after: DeviceResult, percent: float) -> Iterator[Quantity]:
    for what, words in (("start", "start"), ("opening", "opening"), ("first_prediction", "first prediction")):
        old, new = ([getattr(each, what) for each in result.start] for result in (before, after))
        yield partial(_unpaired, words, old, new, "ms", 1000, percent)
    for what, words in (("memory_predicting", "memory to predict"), ("memory_personalizing", "memory to personalize")):
        old, new = (
            [value for each in result.start if (value := getattr(each, what)) is not None] for result in (before, after)
        )
        if old and new:
            yield partial(_unpaired, words, old, new, "MB", 1e-6, percent)
    latencies = {(each.threads, each.batch): each for each in before.latency}
    for latency in after.latency:
        if (latency.threads, latency.batch) in latencies:
            yield partial(_latency, latencies[latency.threads, latency.batch], latency, percent)
    known = {learned.solver: learned for learned in before.learning}
    for learned in after.learning:
        if learned.solver in known:
            old, new = ([sum(turn.values()) for turn in each.turns] for each in (known[learned.solver], learned))
            yield partial(_unpaired, f"personalizing: {learned.solver}", old, new, "ms", 1000, percent)


def _unpaired(
    what: str, old: Sequence[float], new: Sequence[float], unit: str, scale: float, threshold: float, tail: float
) -> Change:
    """Of turns that have nothing to do with each other: medians, both drawn again."""
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(values, size=(_DRAWS, len(values))), axis=1) for values in (old, new)]
    low, high = np.quantile(100 * (drawn[1] / drawn[0] - 1), (tail, 1 - tail))
    before, after = scale * median(old), scale * median(new)
    return Change(what, before, after, unit, float(low), float(high), min(len(old), len(new)), False, threshold)


def _latency(old: Latency, new: Latency, threshold: float, tail: float) -> Change:
    """The calls themselves were not kept: the median's error comes from how far the 95th percentile lies above it."""
    threads = "" if old.threads is None else f", {old.threads} {'thread' if old.threads == 1 else 'threads'}"
    errors = [
        _MEDIAN_ERROR * (each.p95 - each.median) / _NORMAL_95TH / math.sqrt(each.count) / each.median
        for each in (old, new)
    ]
    change, error = new.median / old.median - 1, NormalDist().inv_cdf(1 - tail) * math.hypot(*errors)
    low, high = 100 * (change - error), 100 * (change + error)
    what = f"prediction, {new.batch} at once{threads}"
    counts = min(old.count, new.count)
    return Change(what, 1000 * old.median, 1000 * new.median, "ms", low, high, counts, False, threshold)
