"""SGD on the head: the paper's schedule, on features that were computed once.

A step is torch.optim.SGD's with momentum, on the mean cross-entropy of a batch:

    gradient = (softmax(logits) - one_hot(label)) / batch, summed against the features
    momentum buffer = momentum * buffer + gradient
    parameter = parameter - lr * buffer

It is done in numpy, or by the bundle's step graph on the bundle's runtime; both give the same head within rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.shuffle import epoch_order
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """Epochs, learning rate, momentum, pictures a batch (a last one may be smaller), seed of the shuffling."""

    epochs: int = 5
    lr: float = 0.01
    momentum: float = 0.9
    batch_size: int = 50
    seed: int = 0


@dataclass(frozen=True)
class SgdState:
    """The head and its momentum buffers (shaped like the head)."""

    head: Head
    buffers: Head


class Step(Protocol):
    """One training step on a batch: features float32 [B, F], labels int64 [B]; returns the loss before the step."""

    def __call__(
        self, state: SgdState, features: Float, labels: Labels, lr: float, momentum: float
    ) -> tuple[float, SgdState]: ...


EpochListener = Callable[[int, Head, float], None]


def start(head: Head) -> SgdState:
    return SgdState(head, Head(np.zeros_like(head.weight), np.zeros_like(head.bias)))


def numpy_step(state: SgdState, features: Float, labels: Labels, lr: float, momentum: float) -> tuple[float, SgdState]:
    """The step in numpy, float32 throughout."""
    head, buffers = state.head, state.buffers
    rows = np.arange(len(labels))
    probabilities = head.probabilities(features)
    loss = float(-np.log(np.maximum(probabilities[rows, labels], np.finfo(np.float32).tiny)).mean())
    error = probabilities
    error[rows, labels] -= 1
    error /= np.float32(len(labels))
    moved = Head(
        np.float32(momentum) * buffers.weight + error.T @ features,
        np.float32(momentum) * buffers.bias + error.sum(0),
    )
    rate = np.float32(lr)
    return loss, SgdState(Head(head.weight - rate * moved.weight, head.bias - rate * moved.bias), moved)


def fit_sgd(
    head: Head,
    features: Float,
    labels: Labels,
    schedule: Schedule,
    step: Step = numpy_step,
    listener: EpochListener | None = None,
) -> Head:
    """Train ``head`` on all pictures; the one given is left as it is.

    Args:
        head: where to start.
        features: float32 [N, F].
        labels: int64 [N].
        schedule: how long and how fast.
        step: who does the arithmetic.
        listener: called after each epoch with its number, the head and the epoch's mean training loss.

    Raises:
        UserError: the head is no longer finite; the rate is too high.
    """
    state = start(head)
    for epoch in range(1, schedule.epochs + 1):
        order = epoch_order(len(labels), schedule.seed, epoch)
        total = 0.0
        for first in range(0, len(order), schedule.batch_size):
            batch = order[first : first + schedule.batch_size]
            loss, state = step(state, features[batch], labels[batch], schedule.lr, schedule.momentum)
            total += loss * len(batch)
        if not (np.isfinite(state.head.weight).all() and np.isfinite(state.head.bias).all()):
            raise UserError(f"the head ran away in epoch {epoch} at learning rate {schedule.lr}; choose a lower one")
        if listener:
            listener(epoch, state.head, total / len(labels))
    return state.head
