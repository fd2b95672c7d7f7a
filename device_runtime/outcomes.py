"""What the personalizer's calls return."""

from __future__ import annotations

from dataclasses import dataclass

from fbkit.device_runtime.judging import Verdict


@dataclass(frozen=True)
class FitResult:
    """What a fit did.

    Attributes:
        head: file of the head that is in use now; None for the shipped one.
        verdict: which head that is, and why.
        pictures: how many the fit saw, by class name.
        computed: for how many of the pictures given the body had to run; the others were known.
        loss_before, loss_after: mean cross-entropy on the same pictures, of the shipped and of the fitted head.
        gap: of the exact solver: nats a picture; None for SGD.
        finished: False where the time was up before the solver was done.
        seconds: time by stage: decode, body, solver, judging, write.
    """

    head: str | None
    verdict: Verdict
    pictures: dict[str, int]
    computed: int
    loss_before: float
    loss_after: float
    gap: float | None
    finished: bool
    seconds: dict[str, float]


@dataclass(frozen=True)
class Removal:
    """How many pictures were forgotten, how many are left, and the head in use now; None for the shipped one."""

    forgotten: int
    left: int
    head: str | None


@dataclass(frozen=True)
class Prediction:
    """The likeliest class of a picture, None if that is not likely enough, and the probability of every class."""

    picture: str
    label: str | None
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Percent correct and mean cross-entropy; ``personal`` is None where there is no personal head."""

    pictures: int
    shipped_accuracy: float
    shipped_loss: float
    personal_accuracy: float | None
    personal_loss: float | None
