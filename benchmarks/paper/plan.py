"""What the questions need, what of it is there, and what the rest costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from fbkit.benchmarks.paper.cells import Cell, Scale, pictures_of, recipe_of
from fbkit.benchmarks.paper.questions import Question
from fbkit.benchmarks.paper.store import Store
from fbkit.benchmarks.paper.wanted import Wanted
from fbkit.train.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """A run and all that is asked of it. ``missing`` is what must be measured still.

    pictures: to train on for the run itself. one_pass: through all clients' pictures.
    """

    label: str
    run: str
    recipe: Recipe
    is_trained: bool
    wanted: Wanted
    missing: Wanted
    pictures: int
    one_pass: int

    @property
    def is_done(self) -> bool:
        return self.is_trained and not self.missing

    @property
    def in_all(self) -> int:
        """Pictures to train and fine-tune on, from nothing."""
        return self.pictures + self.wanted.epochs * self.one_pass

    @property
    def left(self) -> int:
        return (0 if self.is_trained else self.pictures) + self.missing.epochs * self.one_pass


@dataclass(frozen=True)
class Plan:
    """The tasks of several questions, each run once whoever asks for it."""

    tasks: Mapping[Cell, Task]
    by_question: Mapping[int, Sequence[Task]]

    @property
    def to_do(self) -> list[Task]:
        """Longest first, so that no long one is left for the end."""
        return sorted(
            (task for task in self.tasks.values() if not task.is_done), key=lambda task: (-task.left, task.run)
        )

    def table(self) -> Table:
        """For people: a row a question, and one for all, where what they share counts once."""
        table = Table("question", "runs", "cached", "evaluations", "cached", "pictures", "left")
        rows = {f"RQ{number}": tasks for number, tasks in self.by_question.items()}
        if len(rows) > 1:
            rows["together"] = list(self.tasks.values())
        for name, tasks in rows.items():
            evaluations = sum(len(task.wanted.names) for task in tasks)
            missing = sum(len(task.missing.names) for task in tasks)
            trained = sum(task.is_trained for task in tasks)
            numbers = (len(tasks), trained, evaluations, evaluations - missing)
            pictures = (sum(task.in_all for task in tasks), sum(task.left for task in tasks))
            table.add_row(name, *map(str, numbers), *(f"{number:,}" for number in pictures))
        return table


def make_plan(store: Store, scale: Scale, questions: Sequence[Question], pictures: int) -> Plan:
    """Look what is there already.

    Args:
        pictures: how many the data set has for training.
    """
    asked = {question.number: question.wanted(scale) for question in questions}
    everything: dict[Cell, Wanted] = {}
    for cells in asked.values():
        for cell, wanted in cells.items():
            everything[cell] = everything.get(cell, Wanted()) | wanted
    one_pass = scale.clients * (pictures // scale.clients)

    def task(cell: Cell, wanted: Wanted) -> Task:
        recipe = recipe_of(cell, scale)
        run = store.run_name(cell, recipe)
        is_trained, missing = store.is_trained(run), store.missing(run, wanted)
        return Task(cell.name, run, recipe, is_trained, wanted, missing, pictures_of(recipe, pictures), one_pass)

    return Plan(
        tasks={cell: task(cell, wanted) for cell, wanted in everything.items()},
        by_question={number: [task(*item) for item in cells.items()] for number, cells in asked.items()},
    )
