"""An evaluation for people: lines on the terminal, a CSV with a row a client and figure, a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fbkit.console import stdout
from fbkit.train.client_table import plain_cell
from fbkit.train.records import Accuracies, Evaluation

COLUMNS = ("client", "name", "own_part", "what", "part", "epochs", "lr", "statistics", "accuracy")


@dataclass(frozen=True)
class Figure:
    """One thing that was measured for every client. ``what``: initial, templates or fine-tuned."""

    what: str
    statistics: str
    accuracies: Accuracies
    part: str = ""
    epochs: int = 0
    lr: float = 0.0

    @property
    def words(self) -> str:
        if self.what == "fine-tuned":
            epochs = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
            return f"after {self.part} fine-tuning, {epochs} at {self.lr:g}, {self.statistics} statistics"
        name = {"initial": "before personalization", "templates": "nearest class template, no head"}[self.what]
        return f"{name}, {self.statistics} statistics"


def figures_of(evaluation: Evaluation) -> Iterator[Figure]:
    """Everything in an evaluation that has a number for each client."""
    for statistics, found in evaluation.initial.measured():
        yield Figure("initial", statistics, found)
    if evaluation.templates:
        for statistics, found in evaluation.templates.measured():
            yield Figure("templates", statistics, found)
    for after in evaluation.personalized:
        yield Figure("fine-tuned", after.statistics, after, after.part, after.epochs, after.lr)


def print_evaluation(evaluation: Evaluation) -> None:
    """A line for each figure: mean over clients, spread, worst tenth."""
    count = len(evaluation.clients)
    if evaluation.own_part != "none":
        line = f"judged with each client's own {evaluation.own_part}"
        if evaluation.without_own:
            start = (
                "the server's model" if evaluation.own_part == "model" else f"the run's initial {evaluation.own_part}"
            )
            line += f"; {len(evaluation.without_own)} of {count} clients never trained and start from {start}"
        stdout.print(line)
    for figure in figures_of(evaluation):
        found = figure.accuracies
        stdout.print(
            f"{figure.words}: {found.mean:.1f}% +- {found.std:.1f} across {count} clients, "
            f"worst tenth {found.worst_decile:.1f}%"
        )
    if evaluation.pooled:
        for statistics, pooled in (("batch", evaluation.pooled.batch), ("static", evaluation.pooled.static)):
            if pooled:
                stdout.print(
                    f"everybody's test pictures in one pool, {statistics} statistics: accuracy {pooled.accuracy:.1f}%, "
                    f"nearest class template {pooled.template:.1f}%, linear probe {pooled.probe:.1f}%"
                )


def to_csv(evaluation: Evaluation, names: Sequence[str] = ()) -> str:
    """A row for each client and figure; ``own_part`` says what the client was judged with of its own.

    Args:
        names: of all clients, where they have names of their own.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    without = set(evaluation.without_own)
    for figure in figures_of(evaluation):
        tuned = figure.what == "fine-tuned"
        for client, accuracy in zip(evaluation.clients, figure.accuracies.per_client, strict=True):
            own = "none" if client in without else evaluation.own_part
            detail = (figure.part, figure.epochs, figure.lr) if tuned else ("", "", "")
            name = plain_cell(names[client]) if names else ""
            writer.writerow((client, name, own, figure.what, *detail, figure.statistics, round(accuracy, 4)))
    return text.getvalue()
