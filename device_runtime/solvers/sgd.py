"""SGD on the head: the paper's schedule, on features that were computed once.

A step is torch.optim.SGD's with momentum and weight decay, on a batch's mean cross-entropy and a pull to an anchor:

    gradient = (softmax(logits) - one_hot(label)) / batch, summed against the features
               + penalty * (parameter - anchor) + weight_decay * parameter
    momentum buffer = momentum * buffer + gradient
    parameter = parameter - lr * buffer

A class that the mask leaves out has no part in the softmax, and its gradient is zero.

It is done in numpy, or by the bundle's step graph on the bundle's runtime; both give the same head within rounding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fbkit.device_runtime.head import Head, Mask
from fbkit.device_runtime.manifest import Defaults
from fbkit.device_runtime.shuffle import epoch_order
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs, lr, momentum: of SGD.
        batch_size: pictures a step; an epoch's last batch may be smaller.
        seed: of the shuffling.
        weight_decay: as torch.optim.SGD adds it.
        penalty: strength of the pull to the head that training starts from, for a loss that is the sum of the pictures'
            cross-entropies plus penalty / 2 times the squared distance of weight and bias.
    """

    epochs: int = 5
    lr: float = 0.01
    momentum: float = 0.9
    batch_size: int = 50
    seed: int = 0
    weight_decay: float = 0.0
    penalty: float = 0.0


def default_schedule(defaults: Defaults) -> Schedule:
    """What the bundle's manifest recommends for SGD; its penalty is meant for the convex solver."""
    return Schedule(defaults.epochs, defaults.lr, defaults.momentum, defaults.batch_size)


@dataclass(frozen=True)
class SgdState:
    """The head and its momentum buffers (shaped like the head)."""

    head: Head
    buffers: Head


@dataclass(frozen=True)
class StepSettings:
    """What is the same in every step of a fit.

    Attributes:
        lr, momentum, weight_decay: torch.optim.SGD's.
        anchor: the head that the penalty pulls to.
        penalty: for a loss that is the batch's mean cross-entropy plus penalty / 2 times the squared distance of weight
            and bias to the anchor's.
        class_mask: bool [classes], False for a class that is left out; None leaves none out.
    """

    lr: float
    momentum: float
    anchor: Head
    weight_decay: float = 0.0
    penalty: float = 0.0
    class_mask: Mask | None = None


class Step(Protocol):
    """One training step on a batch: features float32 [B, F], labels int64 [B], none of a class that is left out.

    Returns the mean cross-entropy before the step, and the state after it.
    """

    def __call__(
        self, state: SgdState, features: Float, labels: Labels, settings: StepSettings
    ) -> tuple[float, SgdState]: ...


EpochListener = Callable[[int, Head, float], None]


def start(head: Head) -> SgdState:
    return SgdState(head, Head(np.zeros_like(head.weight), np.zeros_like(head.bias)))


def numpy_step(state: SgdState, features: Float, labels: Labels, settings: StepSettings) -> tuple[float, SgdState]:
    """The step in numpy, float32 throughout."""
    head, buffers, anchor, mask = state.head, state.buffers, settings.anchor, settings.class_mask
    rows = np.arange(len(labels))
    masked = head if mask is None else head.without(~mask)
    error = masked.probabilities(features)
    loss = float(-np.log(np.maximum(error[rows, labels], np.finfo(np.float32).tiny)).mean())
    error[rows, labels] -= 1
    error /= np.float32(len(labels))
    weight, weight_buffer = _moved(head.weight, buffers.weight, error.T @ features, anchor.weight, settings)
    bias, bias_buffer = _moved(head.bias, buffers.bias, error.sum(0), anchor.bias, settings)
    return loss, SgdState(Head(weight, bias), Head(weight_buffer, bias_buffer))


def _moved(
    parameter: Float, buffer: Float, gradient: Float, anchor: Float, settings: StepSettings
) -> tuple[Float, Float]:
    """Parameter and momentum buffer after the step; ``gradient``, of the cross-entropy, is written over."""
    if settings.penalty:
        gradient += np.float32(settings.penalty) * (parameter - anchor)
    if settings.weight_decay:
        gradient += np.float32(settings.weight_decay) * parameter
    if settings.class_mask is not None:
        gradient[~settings.class_mask] = 0
    gradient += np.float32(settings.momentum) * buffer
    return parameter - np.float32(settings.lr) * gradient, gradient


@np.errstate(over="ignore", invalid="ignore")  # of a head that runs away; seen to below
def fit_sgd(
    head: Head,
    features: Float,
    labels: Labels,
    schedule: Schedule,
    step: Step = numpy_step,
    listener: EpochListener | None = None,
    class_mask: Mask | None = None,
    deadline: float | None = None,
) -> Head:
    """Train ``head`` on all pictures; the one given is left as it is.

    Args:
        head: where to start, and what the schedule's penalty pulls to.
        features: float32 [N, F].
        labels: int64 [N].
        schedule: how long and how fast.
        step: who does the arithmetic.
        listener: called after each epoch with its number, the head and the epoch's mean cross-entropy in training.
        class_mask: bool [classes], False for a class that no picture has and whose row stays as it is; None for none.
        deadline: of ``time.monotonic``, in seconds; the epoch in which it passes is the last. None for none.

    Raises:
        UserError: the head is no longer finite; the rate is too high.
    """
    settings = StepSettings(
        lr=schedule.lr,
        momentum=schedule.momentum,
        anchor=head,
        weight_decay=schedule.weight_decay,
        penalty=schedule.penalty / len(labels),
        class_mask=class_mask,
    )
    state = start(head)
    for epoch in range(1, schedule.epochs + 1):
        order = epoch_order(len(labels), schedule.seed, epoch)
        total = 0.0
        for first in range(0, len(order), schedule.batch_size):
            batch = order[first : first + schedule.batch_size]
            loss, state = step(state, features[batch], labels[batch], settings)
            total += loss * len(batch)
        if not (np.isfinite(state.head.weight).all() and np.isfinite(state.head.bias).all()):
            raise UserError(f"the head ran away in epoch {epoch} at learning rate {schedule.lr}; choose a lower one")
        if listener:
            listener(epoch, state.head, total / len(labels))
        if deadline is not None and time.monotonic() >= deadline:
            break
    return state.head
