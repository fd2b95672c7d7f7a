"""The convex solver: softmax regression with a pull to the shipped head, to a stated optimality gap.

With features x_i and labels y_i of the pictures it minimises, over weight W and bias b,

    objective = sum_i cross-entropy(W x_i + b, y_i) + penalty / 2 * (|W - W0|^2 + |b - b0|^2)

The shipped head (W0, b0) is start and anchor. There is no learning rate and no order of the pictures, and it knows when
it is done: the objective is strongly convex, so (Boyd and Vandenberghe, Convex Optimization, 2004, section 9.1.2)

    objective - minimum <= |gradient|^2 / (2 * penalty)

It is Newton's method, each direction found by a few steps of conjugate gradients (Nocedal and Wright, Numerical
Optimization, 2006, section 7.1). Directions are computed in float32, which is twice as fast: what rounding spoils in
one, the next gradient puts right. Logits, gradient and objective are float64, or the gap could not be told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError

Double = npt.NDArray[np.float64]
IterationListener = Callable[[int, Head, float], None]

# Found by trial, on features of several widths, scales and overlaps.
_MOST_PRODUCTS = 2000  # with the Hessian, in all
_FIRST_EFFORT, _LEAST_EFFORT, _MOST_EFFORT = 10, 5, 200  # products for one direction
_RESIDUAL = 0.3  # of the gradient: with less left, a direction is good enough
_SLOPE = 0.1  # of the slope at the start: with less left, a step is long enough
_MOST_TRIALS = 50  # of a step's length


@dataclass(frozen=True)
class ExactFit:
    """What a fit found.

    Attributes:
        head: the minimiser, rounded to float32.
        gap: nats a picture; the objective at ``head`` is at most so far above the minimum.
        iterations: of Newton's method.
        finished: False where the deadline ended it.
    """

    head: Head
    gap: float
    iterations: int
    finished: bool


def fit_exact(
    head: Head,
    features: Float,
    labels: Labels,
    penalty: float,
    gap: float = 1e-6,
    listener: IterationListener | None = None,
    deadline: float | None = None,
) -> ExactFit:
    """Minimise the objective; ``head``, the shipped one, is left as it is.

    It ends when the gap is as small as asked, when rounding allows no further step, after a fixed amount of work, or at
    the deadline; the result's gap says how far it came. The result is never worse than ``head``.

    Args:
        head: the start and the anchor.
        features: float32 [N, F], N at least 1.
        labels: int64 [N].
        penalty: above 0.
        gap: the one to reach, in nats a picture.
        listener: called after each iteration with its number, the head and the mean cross-entropy.
        deadline: of ``time.monotonic``, in seconds; the iteration in which it passes is the last. None for none.

    Raises:
        UserError: the features are not finite.
    """
    if not np.isfinite(features).all():
        raise UserError("the features of these pictures are not finite numbers, so no head can be fitted to them")
    problem = _Problem(head, features, labels, penalty)
    moved = np.zeros_like(problem.anchor)
    logits = problem.inputs @ problem.anchor.T
    start = problem.objective(logits, moved)
    iterations, products, effort, finished = 0, 0, _FIRST_EFFORT, True
    while True:
        probabilities = _softmax(logits)
        gradient = problem.gradient(probabilities, moved)
        bound = _squared(gradient) / (2 * penalty)
        if bound <= gap * len(labels) or products >= _MOST_PRODUCTS:
            break
        if iterations and deadline is not None and time.monotonic() >= deadline:
            finished = False
            break
        direction, used = problem.newton_direction(gradient, probabilities, effort)
        change = problem.inputs @ direction.T
        step = problem.step_length(moved, logits, direction, change, float(np.vdot(gradient, direction)))
        if step == 0:
            break
        moved += step * direction
        logits += step * change
        iterations += 1
        products += used
        # Near 1, the quadratic model was right, and its minimum is worth more work.
        effort = min(2 * effort, _MOST_EFFORT) if 0.5 < step < 2 else max(effort // 2, _LEAST_EFFORT)
        if listener:
            present = problem.head_at(moved)
            listener(iterations, present, present.loss(features, labels))
    least = problem.objective(logits, moved) - bound
    found = problem.head_at(moved)
    reached = problem.objective_of(found)
    if not reached <= start:  # what there was to gain is lost in rounding to float32
        found, reached = head, start
    return ExactFit(found, max(reached - least, 0.0) / len(labels), iterations, finished)


class _Problem:
    """The objective, over how far weight and bias, float64 [classes, F + 1] with the bias last, moved from the anchor.

    A bias is the weight of a feature that is 1 everywhere. Logits are float64 [N, classes].
    """

    def __init__(self, head: Head, features: Float, labels: Labels, penalty: float) -> None:
        self._inputs32 = np.hstack([features, np.ones((len(features), 1), np.float32)])
        self.inputs = self._inputs32.astype(np.float64)
        self.anchor = _as_one(head)
        self._chosen = np.arange(len(labels)), labels
        self._penalty = penalty

    def objective(self, logits: Double, moved: Double) -> float:
        largest = logits.max(1)
        losses = np.log(np.exp(logits - largest[:, None]).sum(1)) + largest - logits[self._chosen]
        return float(losses.sum()) + self._penalty / 2 * _squared(moved)

    def objective_of(self, head: Head) -> float:
        parameters = _as_one(head)
        return self.objective(self.inputs @ parameters.T, parameters - self.anchor)

    def gradient(self, probabilities: Double, moved: Double) -> Double:
        errors = probabilities.copy()
        errors[self._chosen] -= 1
        gradient: Double = errors.T @ self.inputs + self._penalty * moved
        return gradient

    def head_at(self, moved: Double) -> Head:
        parameters = (self.anchor + moved).astype(np.float32)
        return Head(np.ascontiguousarray(parameters[:, :-1]), parameters[:, -1].copy())

    @np.errstate(over="ignore", invalid="ignore")  # where features are absurdly large; seen to below
    def newton_direction(self, gradient: Double, probabilities: Double, effort: int) -> tuple[Double, int]:
        """A direction in which the objective falls, and how many products with the Hessian it took: at most ``effort``.

        Conjugate gradients on Hessian @ direction = -gradient. The Hessian is never formed: only its products are
        needed, and each costs two passes over the inputs.
        """
        weights, penalty = probabilities.astype(np.float32), np.float32(self._penalty)
        norm = math.sqrt(_squared(gradient))
        residual: Float = (-gradient / norm).astype(np.float32)
        direction, search, left, used = np.zeros_like(residual), residual.copy(), 1.0, 0
        while used < effort:
            used += 1
            change = self._inputs32 @ search.T
            change *= weights
            change -= weights * change.sum(1, keepdims=True)
            product = change.T @ self._inputs32 + penalty * search
            curvature = float(np.vdot(search, product))
            if not 0 < curvature < math.inf:  # by rounding alone
                break
            length = np.float32(left / curvature)
            direction += length * search
            residual -= length * product
            before, left = left, float(np.vdot(residual, residual))
            if left <= _RESIDUAL**2:
                break
            search = residual + np.float32(left / before) * search
        found: Double = norm * direction.astype(np.float64)
        falls = float(np.vdot(found, gradient)) < 0  # not so for what is not a number
        return (found if falls else -gradient), used

    def step_length(self, moved: Double, logits: Double, direction: Double, change: Double, slope: float) -> float:
        """How far to go along ``direction``; 0 if rounding hides every way down.

        Newton's method in one dimension, kept between points where the objective falls and rises: each trial costs no
        pass over the inputs.

        Args:
            change: how the logits change with a step of 1.
            slope: of the objective, at the start.
        """
        low, high, step = 0.0, math.inf, 1.0
        across, along = float(np.vdot(moved, direction)), _squared(direction)
        of_labels = float(change[self._chosen].sum())
        for _ in range(_MOST_TRIALS):
            weighted = _softmax(logits + step * change) * change
            means = weighted.sum(1)
            now = float(means.sum()) - of_labels + self._penalty * (across + step * along)
            if abs(now) <= _SLOPE * abs(slope):
                return step
            low, high = (step, high) if now < 0 else (low, step)
            curvature = float(np.vdot(weighted, change) - np.vdot(means, means)) + self._penalty * along
            step -= now / curvature
            if not low < step < high:
                step = 2 * low if high == math.inf else (low + high) / 2 if low else high / 10
        return low


def _as_one(head: Head) -> Double:
    """Weight and bias as float64 [classes, F + 1]."""
    return np.hstack([head.weight, head.bias[:, None]]).astype(np.float64)


def _softmax(logits: Double) -> Double:
    exponentials: Double = np.exp(logits - logits.max(1, keepdims=True))
    exponentials /= exponentials.sum(1, keepdims=True)
    return exponentials


def _squared(array: Double) -> float:
    return float(np.vdot(array, array))
