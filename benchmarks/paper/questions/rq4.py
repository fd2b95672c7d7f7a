"""RQ4: the global model without its head: the nearest class template of each client's own training pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.benchmarks.paper.cells import Cell, Scale
from fbkit.benchmarks.paper.questions.drawing import Way, draw_legend, draw_line, look
from fbkit.benchmarks.paper.questions.question import NAMES, PAIR, Answer, Question, grid, grid_table, with_seeds
from fbkit.benchmarks.paper.results import Results, change, initial, templates
from fbkit.benchmarks.paper.wanted import Wanted

WAYS: tuple[Way, ...] = (("by templates", templates, "-"), ("with the head", initial, "--"))


def _wanted(scale: Scale) -> dict[Cell, Wanted]:
    return with_seeds(scale, grid(scale), Wanted(templates=True))


def _answer(results: Results) -> Answer:
    return Answer(
        tables=[
            grid_table(results, "Nearest template, no head, accuracy in %", templates),
            grid_table(results, "Initial accuracy with the head, %", initial),
        ],
        figure=_draw(results),
        findings=_findings(results),
        notes=[
            (
                "A client's templates are the mean features of the classes in its own training pictures, so this "
                "accuracy chooses among the client's classes only; the head chooses among all."
            )
        ],
    )


def _findings(results: Results) -> str:
    sentences = []
    conditions = results.scale.conditions
    for shards in results.scale.shards:
        # For each seed, the mean over conditions.
        without, with_head = (
            {
                name: np.mean([results.values(Cell(name, shards, where), pick) for where in conditions], axis=0)
                for name in PAIR
            }
            for pick in (templates, initial)
        )
        sentences.append(
            f"At s={shards}, over all conditions, FedBABU differs from FedAvg by "
            f"{change(without['fedbabu'] - without['fedavg'])} points by templates and by "
            f"{change(with_head['fedbabu'] - with_head['fedavg'])} with the head; leaving the head away changes FedAvg "
            f"by {change(without['fedavg'] - with_head['fedavg'])} and FedBABU by "
            f"{change(without['fedbabu'] - with_head['fedbabu'])}."
        )
    return " ".join(sentences)


def _draw(results: Results) -> Figure:
    scale = results.scale
    columns = min(3, len(scale.conditions))
    rows = -(-len(scale.conditions) // columns)
    with plotting.style():
        figure = Figure(figsize=(11, 3.7 * rows + 0.4), layout="constrained")
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for axes, where in zip(panels, scale.conditions, strict=False):
            for place, algorithm in enumerate(PAIR):
                for _, pick, dashes in WAYS:
                    found = [results.values(Cell(algorithm, shards, where), pick) for shards in scale.shards]
                    draw_line(axes, range(len(found)), found, **look(place, dashes))
            axes.set_title(where.words, fontsize=10)
            axes.set_xticks(range(len(scale.shards)), [str(shards) for shards in scale.shards])
            plotting.label(axes, "s, shards a client", "")
        for axes in panels[::columns]:
            axes.set_ylabel("accuracy, mean over clients, %")
        for axes in panels[len(scale.conditions) :]:
            axes.remove()
        draw_legend(figure, [NAMES[name] for name in PAIR], WAYS)
    return figure


RQ4 = Question(
    4,
    "Is the global model's representation robust when judged without the head, by class templates only?",
    _wanted,
    _answer,
)
