"""What a comparison found: one curve for each client, bundle, solver and number of pictures; as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from fbkit.benchmarks.device.facts import Machine
from fbkit.benchmarks.typed import read_as
from fbkit.errors import UserError

SCHEMA, VERSION = "fbkit.bench-convergence", 1
ALL = 0  # as a number of pictures a class: as many as there are


@dataclass(frozen=True)
class Subject:
    """A bundle on a runtime.

    Attributes:
        source: what made the body: an algorithm, or the folder's name.
        seed: of its training.
        target: ``onnx``, ``executorch`` or ``native``, the .pte bundle on the native runner.
        runtime: what ran the body.
        digest: the bundle's identity.
        bytes: of the bundle's files.
    """

    source: str
    seed: int
    target: str
    precision: str
    runtime: str
    digest: str
    bytes: int


@dataclass(frozen=True)
class Curve:
    """One client's personalization: the state as shipped and after each epoch of SGD or iteration of another solver.

    Attributes:
        subject: place in the result's subjects.
        solver: ``sgd``, ``sgd:RATE``, ``exact`` or ``nearest``.
        per_class: how many pictures of a class were learned from, at most; 0 for all.
        client: name.
        pictures: how many that were.
        batch: pictures a step; None for all of them in each.
        features_seconds: until pictures were decoded and the body had seen them; None where the runner does not tell.
        seconds: since the pictures were given, decoding and body included and judging left out; 0 as shipped.
        accuracy: percent of the client's test pictures.
        loss: mean cross-entropy of the test pictures in nats; None for ``nearest``, which has no probabilities.
    """

    subject: int
    solver: str
    per_class: int
    client: str
    pictures: int
    batch: int | None
    features_seconds: float | None
    seconds: tuple[float, ...]
    accuracy: tuple[float, ...]
    loss: tuple[float, ...] | None

    @property
    def epochs(self) -> tuple[int, ...]:
        """Passes over the pictures' features; of ``exact``, iterations, of which each takes several."""
        return tuple(range(len(self.accuracy)))

    @property
    def steps(self) -> tuple[int, ...]:
        """Of SGD; of another solver, iterations."""
        each = 1 if self.batch is None else -(-self.pictures // self.batch)
        return tuple(each * epoch for epoch in self.epochs)

    @property
    def seen(self) -> tuple[int, ...]:
        """Pictures that the solver was shown, again and again; the body sees each once."""
        return tuple(self.pictures * epoch for epoch in self.epochs)


@dataclass(frozen=True)
class ConvergenceResult:
    """Attributes:
    command: that makes it again.
    notes: on what was run, for reports.
    """

    machine: Machine
    command: str
    notes: tuple[str, ...]
    subjects: tuple[Subject, ...]
    curves: tuple[Curve, ...]

    @cached_property
    def clients(self) -> tuple[str, ...]:
        return tuple(sorted({curve.client for curve in self.curves}))

    def to_json(self) -> dict[str, Any]:
        """With numbers as exact as they mean something."""
        curves = []
        for curve in self.curves:
            entry = asdict(curve)
            for key, digits in (("seconds", 6), ("accuracy", 3), ("loss", 5)):
                if entry[key] is not None:
                    entry[key] = [round(value, digits) for value in entry[key]]
            if entry["features_seconds"] is not None:
                entry["features_seconds"] = round(entry["features_seconds"], 6)
            curves.append(entry)
        return {"schema": SCHEMA, "version": VERSION, **asdict(self), "curves": curves}

    def to_csv(self) -> str:
        """A row for each point of each curve."""
        header = ["source", "seed", "target", "precision", "solver", "pictures_per_class", "client", "pictures"]
        return to_csv([*header, "epoch", "step", "seen", "seconds", "accuracy", "loss"], self._rows())

    def _rows(self) -> Iterator[list[object]]:
        for curve in self.curves:
            of = self.subjects[curve.subject]
            head = [of.source, of.seed, of.target, of.precision, curve.solver, curve.per_class or "all", curve.client]
            losses = curve.loss or [""] * len(curve.accuracy)
            points = zip(curve.epochs, curve.steps, curve.seen, curve.seconds, curve.accuracy, losses, strict=True)
            for epoch, step, seen, seconds, accuracy, loss in points:
                said = f"{loss:.5g}" if isinstance(loss, float) else loss
                yield [*head, curve.pictures, epoch, step, seen, f"{seconds:.6g}", f"{accuracy:.5g}", said]


def to_csv(header: Sequence[str], rows: Iterator[list[object]] | Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def convergence_result_from_json(value: Any, origin: str) -> ConvergenceResult:
    """Check what should be ``ConvergenceResult.to_json``'s.

    Args:
        value: of any type and content.
        origin: for messages.

    Raises:
        UserError: it is not, or a curve is impossible.
    """
    if not isinstance(value, dict) or (value.get("schema"), value.get("version")) != (SCHEMA, VERSION):
        raise UserError(f"{origin}: is no result of fbkit bench convergence, or of another version of fbkit")
    result = read_as(ConvergenceResult, value, origin)
    for place, curve in enumerate(result.curves):
        refuse_impossible(curve, len(result.subjects), f"{origin}: curves[{place}]")
    return result


def refuse_impossible(curve: Curve, subjects: int, origin: str) -> None:
    """Raise UserError for a curve that no personalization gives."""
    lengths = {len(curve.seconds), len(curve.accuracy), len(curve.accuracy if curve.loss is None else curve.loss)}
    if len(lengths) > 1 or lengths == {0}:
        raise UserError(f"{origin}: seconds, accuracy and loss must be equally long, and not empty")
    if not (0 <= curve.subject < subjects and curve.pictures > 0 and (curve.batch is None or curve.batch > 0)):
        raise UserError(f"{origin}: subject, pictures or batch is not possible")
    if list(curve.seconds) != sorted(curve.seconds) or curve.seconds[0] < 0:
        raise UserError(f"{origin}: seconds must not fall")
    if not all(0 <= value <= 100 for value in curve.accuracy):
        raise UserError(f"{origin}: accuracy must be from 0 to 100")
