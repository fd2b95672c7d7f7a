"""A question's folder: report.md, table.csv, figure.png and figure.svg; and the index of all."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.benchmarks.paper.cells import WITH_MU, Scale
from fbkit.benchmarks.paper.plan import Task
from fbkit.benchmarks.paper.questions import QUESTIONS, Answer, Question, Table
from fbkit.benchmarks.paper.results import Measured, Results
from fbkit.files import write_atomic
from fbkit.train.recipe import POOLED
from fbkit.train.records import Accuracies

COLUMNS = (
    "run",
    "algorithm",
    "mu",
    "s",
    "f",
    "tau",
    "rounds",
    "seed",
    "own_part",
    "clients_without_own",
    "what",
    "part",
    "epochs",
    "lr",
    "accuracy",
    "std_over_clients",
    "worst_decile",
)


def write_report(
    out: Path, question: Question, answer: Answer, results: Results, tasks: Sequence[Task], command: Sequence[str]
) -> Path:
    """Write the question's folder; return the report's path.

    Args:
        command: what makes it again, word by word.
    """
    folder = out / f"rq{question.number}"
    folder.mkdir(exist_ok=True)
    report = folder / "report.md"
    write_atomic(folder / "table.csv", to_csv(results).encode())
    for suffix in ("png", "svg"):
        write_atomic(folder / f"figure.{suffix}", _picture(answer.figure, suffix))
    write_atomic(report, to_markdown(question, answer, results, tasks, command).encode())
    return report


def write_index(out: Path, scale: Scale) -> Path:
    """Link the reports that are there."""
    lines = [f"# The questions of the FedBABU paper, {scale.name} scale", ""]
    for number, question in QUESTIONS.items():
        if (out / f"rq{number}" / "report.md").exists():
            lines.append(f"{number}. [{question.text}](rq{number}/report.md)")
    write_atomic(out / "index.md", ("\n".join(lines) + "\n").encode())
    return out / "index.md"


def to_markdown(
    question: Question, answer: Answer, results: Results, tasks: Sequence[Task], command: Sequence[str]
) -> str:
    lines = [f"# RQ{question.number}. {question.text}", "", "## What was run", ""]
    lines += [f"- {line}" for line in (*_what_was_run(results, tasks), *answer.notes)]
    lines += ["", f"Made by `{shlex.join(command)}`.", "", "## Results", ""]
    for table in answer.tables:
        lines += [f"{table.title}:", "", *_table(table), ""]
    lines += [f"![RQ{question.number}](figure.png)", "", "[as SVG](figure.svg), [every cell and seed](table.csv)", ""]
    lines += ["## What the numbers say", "", answer.findings]
    return "\n".join(lines) + "\n"


def to_csv(results: Results) -> str:
    """A row for each cell, seed and figure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cell, measured in results.cells.items():
        where = cell.condition
        shared = (
            measured.run,
            cell.algorithm,
            cell.mu if cell.algorithm in WITH_MU else "",
            cell.shards,
            "" if cell.algorithm in POOLED else where.f,
            where.tau,
            where.rounds,
            cell.seed,
            measured.own_part,
            measured.without_own,
        )
        writer.writerows((*shared, *row) for row in _figures(measured))
    return text.getvalue()


def _figures(measured: Measured) -> Iterator[tuple[object, ...]]:
    def numbers(found: Accuracies) -> tuple[float, ...]:
        return tuple(round(value, 4) for value in (found.mean, found.std, found.worst_decile))

    nothing = ("", "", "")
    yield ("initial", *nothing, *numbers(measured.initial))
    if measured.templates:
        yield ("templates", *nothing, *numbers(measured.templates))
    if measured.pooled:
        for what in ("accuracy", "template", "probe"):
            yield (f"pooled {what}", *nothing, round(getattr(measured.pooled, what), 4), "", "")
    for (part, lr, epochs), found in measured.tuned.items():
        yield ("fine-tuned", part, epochs, lr, *numbers(found))


def _what_was_run(results: Results, tasks: Sequence[Task]) -> Iterator[str]:
    scale, recipe = results.scale, tasks[0].recipe
    width = f", width {recipe.model.width}" if recipe.model.name == "conv4" else ""
    yield (
        f"{scale.name} scale: {recipe.data.source} (crop {recipe.data.crop_padding}"
        f"{', flip' * recipe.data.flip}), {recipe.model.name}{width}, batch statistics; {scale.clients} clients, none "
        f"held out; s, the shards a client, of {_listed(sorted({cell.shards for cell in results.cells}))}"
    )
    federated = {cell.condition for cell in results.cells if cell.algorithm not in POOLED}
    ordered = [where for where in (*scale.conditions, scale.alone) if where in federated]
    yield "; ".join(f"{where.words}: {where.rounds} rounds" for where in ordered) + (
        " (f: share of the clients in a round, tau: local epochs)"
    )
    training = recipe.training
    yield (
        f"SGD, batch {training.batch_size}, learning rate {training.lr:g}, times {training.lr_gamma:g} after "
        f"{' and '.join(f'{100 * milestone:g}%' for milestone in training.lr_milestones)} of the rounds, momentum "
        f"{training.momentum:g}"
    )
    tuned = {key for measured in results.cells.values() for key in measured.tuned}
    if tuned == {("full", 0.001, 5)}:
        yield "personalization: the whole model, 5 epochs at 0.001 on each client's training pictures"
    count = len(scale.seeds)
    yield f"seed{'s' * (count > 1)} {_listed(scale.seeds)}" + (
        "; figures are means over clients, then mean ± standard deviation over seeds" if count > 1 else ""
    )
    seconds = sum(measured.seconds for measured in results.cells.values())
    yield (
        f"{len(tasks)} runs, {sum(task.pictures for task in tasks):,} pictures to train on and "
        f"{sum(task.wanted.epochs * task.one_pass for task in tasks):,} to fine-tune on; training took "
        f"{seconds / 60:.1f} minutes, added up over the runs (those that another question also needs are run once)"
    )


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


def _table(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(table.columns)} |"
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        yield f"| {' | '.join(row)} |"


def _picture(figure: Figure, suffix: str) -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None} if suffix == "svg" else None
    with plotting.style():
        figure.savefig(buffer, format=suffix, dpi=150, metadata=metadata)
    return buffer.getvalue()
