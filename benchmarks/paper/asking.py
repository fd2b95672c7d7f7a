"""Asking the paper's questions from beginning to end: the function behind ``fbkit bench paper``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fbkit.benchmarks.paper.cells import SCALES, Scale, recipe_of
from fbkit.benchmarks.paper.plan import Plan, make_plan
from fbkit.benchmarks.paper.questions import QUESTIONS, Answer
from fbkit.benchmarks.paper.report import write_index, write_report
from fbkit.benchmarks.paper.results import Results
from fbkit.benchmarks.paper.runner import run_tasks
from fbkit.benchmarks.paper.store import Store, open_store
from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.sources import load_dataset


@dataclass(frozen=True)
class Asked:
    """What came out, by question; nothing after a dry run."""

    answers: dict[int, Answer]
    reports: dict[int, Path]
    index: Path | None


def find_scale(name: str, data_root: Path | None) -> Scale:
    """The scale of a name, with the data where they are.

    Raises:
        UserError: no such scale, or it needs a data root that is not given.
    """
    if name not in SCALES:
        raise UserError(f"--scale {name}: known are {' and '.join(SCALES)}")
    scale = SCALES[name]
    if scale.data["source"] == "fashion-mnist-10k":
        if data_root:
            raise UserError(f"--scale {name} trains on pictures that fbkit carries; leave --data-root away")
        return scale
    if not data_root:
        raise UserError(
            f"--scale {name} trains on {scale.data['source']}: give the folder that holds it with --data-root"
        )
    return replace(scale, data={**scale.data, "root": str(data_root.expanduser().resolve())})


def ask(
    numbers: Sequence[int],
    scale: Scale,
    out: Path,
    workers: int | None = None,
    dry_run: bool = False,
    reporter: Reporter | None = None,
    show_plan: Callable[[Plan], None] = lambda _plan: None,
) -> Asked:
    """Train and measure what the questions need and ``out`` does not hold yet, and write their reports.

    Args:
        numbers: of the questions, 1 to 5.
        out: folder to make or to go on with, see store.py.
        workers: processes, one run each at a time; None for one a core.
        dry_run: only look what there is to do, and write the recipes.
        show_plan: told what there is to do, before it is done.

    Raises:
        UserError: no such question, ``out`` cannot be used, the data are not there, or a run failed.
        Interrupted: Ctrl-C; the same call goes on from there.
    """
    for number in numbers:
        if number not in QUESTIONS:
            raise UserError(f"--rq {number}: the paper's questions are {min(QUESTIONS)} to {max(QUESTIONS)}")
    questions = [QUESTIONS[number] for number in sorted(set(numbers))]
    if not questions:
        raise UserError("no question asked: say which with --rq, as in --rq 1")
    reporter = reporter or Reporter(quiet=True)
    first = recipe_of(next(iter(questions[0].wanted(scale))), scale)
    dataset = load_dataset(first.data, first.seed, reporter)
    with open_store(out, scale.name, dataset.fingerprint) as store:
        plan = make_plan(store, scale, questions, len(dataset.train))
        for task in plan.tasks.values():
            store.write_recipe(task.run, task.recipe)
        show_plan(plan)
        if dry_run:
            return Asked({}, {}, None)
        del dataset  # the processes load their own
        run_tasks(plan.to_do, store, workers, reporter)
        answers, reports = {}, {}
        for question in questions:
            number = question.number
            results = _results(store, scale, plan, number)
            answers[number] = question.answer(results)
            command = ["fbkit", "bench", "paper", "--rq", str(number), "--scale", scale.name, "--out", str(out)]
            if root := scale.data.get("root"):
                command += ["--data-root", root]
            reports[number] = write_report(out, question, answers[number], results, plan.by_question[number], command)
        return Asked(answers, reports, write_index(out, scale))


def _results(store: Store, scale: Scale, plan: Plan, number: int) -> Results:
    """What the question asked for, and not what others had measured of the same runs."""
    wanted = QUESTIONS[number].wanted(scale)
    return Results(scale, {cell: store.measured(plan.tasks[cell].run, asked) for cell, asked in wanted.items()})
