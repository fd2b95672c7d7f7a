"""The device's whole job: look at local pictures once, fit the head, remember it, predict."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.class_folder import LabelledPicture, read_class_folder
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.profile import changing_profile, find_profile
from fbkit.device_runtime.solvers.sgd import EpochListener, Schedule, Step, default_schedule, fit_sgd, numpy_step
from fbkit.device_runtime.tensors import Bytes, Float, Labels
from fbkit.errors import UserError
from fbkit.files import sha256_bytes

_AT_ONCE = 32


@dataclass(frozen=True)
class FitResult:
    """What a fit did.

    Attributes:
        head: name of the new head's file in the profile.
        pictures: how many were fitted on, by class name.
        computed: for how many of them the body had to run; the others' features were in the profile.
        loss_before, loss_after: mean cross-entropy on the same pictures, with the shipped and the new head.
        seconds: time by stage: decode, body, solver, write.
    """

    head: str
    pictures: dict[str, int]
    computed: int
    loss_before: float
    loss_after: float
    seconds: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """The likeliest class of a picture and the probability of every class."""

    picture: str
    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Percent correct and mean cross-entropy; ``personal`` is None where there is no personal head."""

    pictures: int
    shipped_accuracy: float
    shipped_loss: float
    personal_accuracy: float | None
    personal_loss: float | None


@dataclass(frozen=True)
class _Looked:
    """features float32 [N, F] of N pictures, and those of them that were computed now, by the file's hex SHA-256."""

    features: Float
    computed: dict[str, Float]


class Personalizer:
    """Personalizes a bundle's head and keeps what it learned in a profile folder.

    Args:
        bundle: an open bundle.
        profile: the profile folder; made at the first ``fit``. Without one nothing can be fitted or remembered.
        reporter: where progress goes; None for nowhere.
    """

    def __init__(
        self,
        bundle: Bundle,
        profile: str | os.PathLike[str] | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self._bundle = bundle
        self._reporter = reporter or Reporter(quiet=True)
        self._folder = None if profile is None else Path(profile)

    def fit(
        self,
        data: str | os.PathLike[str],
        schedule: Schedule | None = None,
        step: Step = numpy_step,
        listener: EpochListener | None = None,
    ) -> FitResult:
        """Fit the shipped head to a folder ``class/picture`` and take the result into use.

        Features of pictures seen before come from the profile. The profile changes only when everything succeeded.

        Args:
            data: the folder.
            schedule: of SGD; None for what the bundle's manifest recommends.
            step: who computes a step: ``numpy_step`` or the bundle's ``graph_step``.
            listener: called after each epoch with its number, the head and the training loss.

        Raises:
            UserError: the folder or a picture in it cannot be used, or the profile belongs to another bundle.
        """
        if self._folder is None:
            raise UserError("to personalize, give a profile folder to keep the result in")
        bundle = self._bundle
        schedule = schedule or default_schedule(bundle.manifest.personalization)
        pictures = read_class_folder(Path(data), bundle.classes)
        profile = find_profile(self._folder, bundle.manifest)

        clock = _Clock()
        known = profile.cached_features() if profile else {}
        looked = self._look_at([picture.path for picture in pictures], known, clock)
        features = looked.features
        labels = labels_of(pictures)
        head = fit_sgd(bundle.head, features, labels, schedule, step, listener)
        clock.lap("solver")
        with changing_profile(self._folder, bundle.manifest) as profile:
            if looked.computed:
                profile.cache_features(profile.cached_features() | looked.computed)
            name = profile.take_into_use(head, {"pictures": len(pictures), **asdict(schedule)})
        clock.lap("write")
        counts = np.bincount(labels, minlength=len(bundle.classes)).tolist()
        return FitResult(
            head=name,
            pictures={name: count for name, count in zip(bundle.classes, counts, strict=True) if count},
            computed=len(looked.computed),
            loss_before=bundle.head.loss(features, labels),
            loss_after=head.loss(features, labels),
            seconds=clock.laps,
        )

    def predict(self, pictures: Sequence[str | os.PathLike[str]]) -> list[Prediction]:
        """Predict with the personal head where there is one, else with the shipped head.

        Raises:
            UserError: a picture or the profile cannot be used.
        """
        bundle = self._bundle
        head = self._personal_head() or bundle.head
        paths = [Path(picture) for picture in pictures]
        if not paths:
            return []
        probabilities = head.probabilities(self._look_at(paths, {}, _Clock()).features)
        return [
            Prediction(
                str(path),
                bundle.classes[int(row.argmax())],
                {name: float(value) for name, value in zip(bundle.classes, row, strict=True)},
            )
            for path, row in zip(paths, probabilities, strict=True)
        ]

    def evaluate(self, data: str | os.PathLike[str]) -> Evaluation:
        """Measure the shipped head and, where there is one, the personal head on a folder ``class/picture``.

        Raises:
            UserError: the folder, a picture in it or the profile cannot be used.
        """
        personal = self._personal_head()
        features, labels = self.read_folder(data)
        shipped = self._bundle.head
        return Evaluation(
            pictures=len(labels),
            shipped_accuracy=shipped.accuracy(features, labels),
            shipped_loss=shipped.loss(features, labels),
            personal_accuracy=None if personal is None else personal.accuracy(features, labels),
            personal_loss=None if personal is None else personal.loss(features, labels),
        )

    def read_folder(self, data: str | os.PathLike[str]) -> tuple[Float, Labels]:
        """Features float32 [N, F] and labels int64 [N] of a folder ``class/picture``; nothing is remembered."""
        pictures = read_class_folder(Path(data), self._bundle.classes)
        looked = self._look_at([picture.path for picture in pictures], {}, _Clock())
        return looked.features, labels_of(pictures)

    def _look_at(self, paths: Sequence[Path], known: dict[str, Float], clock: _Clock) -> _Looked:
        """Features of picture files, a few at a time, so that memory holds a few pictures and all features.

        Args:
            paths: the files, at least one.
            known: features that need not be computed again, by the hex SHA-256 of the file.
            clock: is told the time of decoding and of the body.
        """
        computed: dict[str, Float] = {}
        digests: list[str] = []
        with self._reporter.stage("looking at pictures", len(paths)) as advance:
            for first in range(0, len(paths), _AT_ONCE):
                new: dict[str, Bytes] = {}
                for path in paths[first : first + _AT_ONCE]:
                    content = read_content(path)
                    digests.append(sha256_bytes(content))
                    if digests[-1] not in known and digests[-1] not in computed:
                        new[digests[-1]] = self._bundle.decode(content, str(path))
                    advance("")
                clock.lap("decode")
                computed |= dict(zip(new, self._bundle.features(list(new.values())), strict=True))
                clock.lap("body")
        rows = [known[digest] if digest in known else computed[digest] for digest in digests]
        return _Looked(np.stack(rows), computed)

    def _personal_head(self) -> Head | None:
        if self._folder is None:
            return None
        profile = find_profile(self._folder, self._bundle.manifest)
        if profile is None:
            raise UserError(
                f"{self._folder}: no profile there; make one with: "
                f"fbkit personalize BUNDLE DATA --profile {self._folder}"
            )
        return profile.head()


def read_content(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        UserError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def labels_of(pictures: Sequence[LabelledPicture]) -> Labels:
    """int64 [N]."""
    return np.array([picture.label for picture in pictures], np.int64)


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now
