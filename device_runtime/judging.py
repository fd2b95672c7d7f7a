"""Whether a new head may be taken into use: judged on pictures that it was not fitted on."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.fitting import Fit, Recipe, fit
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.shuffle import stratified_folds
from fbkit.device_runtime.solvers.exact import Double
from fbkit.device_runtime.solvers.threads import as_needed
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError

Rows = npt.NDArray[np.bool_]
Choice = Literal["candidate", "present", "shipped"]

_MOST_FOLDS = 5
_LEAST_PICTURES = 10
_GAP = 1e-3  # nats a picture: heads that differ by less are as good
_FLOOR = math.log(1e-6)  # of log-probabilities: no single picture outweighs all others
# By so many a head has to show that it looks at the pictures. Tried on features of trained and made-up bodies with
# shipped heads confident and not, 10 to 200 pictures of 2 to 10 classes: 0.4% of the heads for random labels got
# through (88.8% by their losses alone), and of those for true labels that were better indeed 92.3% (95.8%).
_STANDARD_ERRORS = 2.5


@dataclass(frozen=True)
class Verdict:
    """Which head to use.

    Attributes:
        verified: whether held-out pictures decided it.
        reason: a short sentence for people.
        losses: mean log-loss on held-out pictures, in nats, of "shipped", "candidate", "present" where there is one,
            and "constant": the candidate's, were it blind, see ``judge``. Empty where nothing could be judged.
        folds: 0 where nothing could be judged.
        correct: percent of the held-out pictures that they get right, for people: it decides nothing. As ``losses``,
            but without "constant".
    """

    chosen: Choice
    verified: bool
    reason: str
    losses: dict[str, float]
    folds: int
    correct: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _HeldOut:
    """How a head does on held-out pictures: float64 [N], each picture's log-loss, and what it were if blind.

    ``right``, bool [N]: whether the label is the likeliest class.
    """

    losses: Double
    blind: Double
    right: Rows

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    @property
    def sees(self) -> bool:
        """Whether it does better than if it was blind, by more than luck explains."""
        gains = self.blind - self.losses
        of_mean = np.logaddexp(gains, 0) - math.log(2)  # in log-loss, by the mean of both probabilities
        error = float(of_mean.std(ddof=1)) / math.sqrt(len(gains))
        return float(gains.mean()) > 0 and float(of_mean.mean()) > _STANDARD_ERRORS * error


def judge(
    shipped: Head,
    features: Float,
    labels: Labels,
    candidate: Recipe,
    present: tuple[Recipe, Rows] | None,
    *,
    seed: int = 0,
    deadline: float | None = None,
) -> Verdict:
    """Choose between the shipped head, the present one and a candidate by the log-loss on held-out pictures.

    Five times, or as often as the rarest class has pictures if that is less, a fold of the pictures is held out. The
    candidate's recipe is run on the others, the present head's recipe on those of the others that it was fitted on; if
    there are none it counts as the shipped head. The least mean log-loss wins; ties go to the shipped head, then to the
    present one.

    On random labels a confident shipped head does so badly that almost any other does better. So candidate and present
    have to show that they look at the pictures. A head is blind if in each picture it gives the same probability to the
    classes that have pictures together, but shares it among them by how often they are in the other folds, each count
    plus one. A head must do better than if it was blind, and so must, by two and a half standard errors of the paired
    difference, the mean of its probability and the blind one's (the mean, because else one mistake made with confidence
    hides many pictures that are right). Where only one class has pictures there is nothing to share, and nothing to
    show.

    A recipe that runs away counts as a probability of 0. Log-probabilities are no lower than ln 1e-6.

    Args:
        shipped: with a row for each class that the device added.
        features: float32 [N, F].
        labels: int64 [N].
        candidate: for all pictures.
        present: the recipe of the head in use, and bool [N]: which of the pictures it was fitted on.
        seed: of the folds.
        deadline: of ``time.monotonic``, in seconds.

    Returns:
        The candidate, not verified, if nothing can be judged: with fewer than 10 pictures, or with a single one of some
        class. Where the deadline passes before all folds are done, what is in use stays, not verified.
    """
    sizes = np.unique(labels, return_counts=True)[1]
    if len(labels) < _LEAST_PICTURES:
        return _unjudged(f"there are fewer than {_LEAST_PICTURES} pictures to judge by")
    if sizes.min() < 2:
        return _unjudged("a class has only one picture to judge by")
    folds = min(_MOST_FOLDS, int(sizes.min()))
    small, seen = _in_their_span(shipped, features)
    found = _held_out(small, seen, labels, candidate, present, stratified_folds(labels, folds, seed), deadline)
    if found is None:
        kept: Choice = "present" if present else "shipped"
        return Verdict(kept, False, "the time was up before the head was judged", {}, 0)
    chosen: Choice = "shipped"
    able = {name for name in found if len(sizes) == 1 or found[name].sees}
    order: tuple[Choice, ...] = ("present", "candidate")
    for name in order:
        if name in able and found[name].loss < found[chosen].loss:
            chosen = name
    losses = {name: each.loss for name, each in found.items()} | {"constant": float(found["candidate"].blind.mean())}
    if chosen == "candidate":
        reason = "the new head does best on held-out pictures"
    elif "candidate" in able:
        reason = f"the new head does no better on held-out pictures than the {chosen} head"
    else:
        reason = "the new head does no better on held-out pictures than without looking at them"
    correct: dict[str, float] = {name: 100 * float(each.right.mean()) for name, each in found.items()}
    return Verdict(chosen, True, reason, losses, folds, correct)


def _in_their_span(shipped: Head, features: Float) -> tuple[Head, Float]:
    """Head and features in as many dimensions as there are pictures, where these are few: it takes far less time.

    A fit moves weights along the pictures' features alone, and what other directions hold (weight decay shrinks it)
    adds nothing to these pictures' logits. So in an orthonormal basis of the features' span every recipe gives the
    logits that it gives in full.
    """
    if 2 * len(features) > features.shape[1]:
        return shipped, features
    with as_needed(features.size):  # what one of its steps multiplies
        basis = np.linalg.qr(features.T)[0]  # float32 [F, N]
    return Head(shipped.weight @ basis, shipped.bias), features @ basis


def _unjudged(reason: str) -> Verdict:
    return Verdict("candidate", False, reason, {}, 0)


def _held_out(
    shipped: Head,
    features: Float,
    labels: Labels,
    candidate: Recipe,
    present: tuple[Recipe, Rows] | None,
    assigned: Labels,
    deadline: float | None,
) -> dict[Choice, _HeldOut] | None:
    """None if the deadline passed. assigned: int64 [N], each picture's fold, from 0 on."""
    count, classes = len(labels), len(shipped.bias)
    refit = partial(fit, deadline=deadline, gap=_GAP)
    as_shipped = Fit(shipped, np.ones(classes, np.bool_), None, finished=True)
    recipes: dict[Choice, tuple[Recipe, Rows]] = {
        "shipped": (candidate, np.zeros(count, np.bool_)),  # on no pictures
        "candidate": (candidate, np.ones(count, np.bool_)),
    }
    if present:
        recipes["present"] = present
    found = {name: _HeldOut(np.empty(count), np.empty(count), np.zeros(count, np.bool_)) for name in recipes}
    for fold in range(int(assigned.max()) + 1):
        held, others = assigned == fold, assigned != fold
        frequencies = np.bincount(labels[others], minlength=classes)
        for name, (recipe, rows) in recipes.items():
            own = others & rows
            try:
                fitted = refit(shipped, features[own], labels[own], recipe) if own.any() else as_shipped
            except UserError:  # it ran away
                found[name].losses[held] = found[name].blind[held] = -_FLOOR
                continue
            scores = _scores(fitted, features[held], labels[held], frequencies)
            found[name].losses[held], found[name].blind[held], found[name].right[held] = scores
        if deadline is not None and time.monotonic() >= deadline:  # a fit may have been cut short
            return None
    return found


def _scores(fitted: Fit, features: Float, labels: Labels, frequencies: Labels) -> tuple[Double, Double, Rows]:
    """float64 [N] each: a picture's log-loss, and what it were if the head was blind; bool [N]: whether it is right."""
    logits = features.astype(np.float64) @ fitted.head.weight.T + fitted.head.bias
    logits[:, ~fitted.mask] = -np.inf
    normaliser = np.logaddexp.reduce(logits, axis=1)
    seen = frequencies > 0
    shares = (frequencies + 1) / (frequencies[seen] + 1).sum()
    blind = np.logaddexp.reduce(logits[:, seen], axis=1) + np.log(shares[labels])
    own = logits[np.arange(len(labels)), labels]
    right = logits.argmax(1) == labels
    return -np.maximum(own - normaliser, _FLOOR), -np.maximum(blind - normaliser, _FLOOR), right
