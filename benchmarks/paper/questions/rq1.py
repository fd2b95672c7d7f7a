"""RQ1: initial against personalized accuracy of FedAvg and FedBABU over shards, share of clients and local epochs."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from fbkit import plotting
from fbkit.benchmarks.paper.cells import Cell, Scale
from fbkit.benchmarks.paper.questions.question import (
    NAMES,
    PAIR,
    Answer,
    Question,
    grid,
    grid_table,
    steps,
    with_seeds,
)
from fbkit.benchmarks.paper.results import Results, change, deviation, initial, personalized
from fbkit.benchmarks.paper.wanted import PAPER_TUNING, Wanted

WORDS = {"clients": "more clients a round", "epochs": "more local epochs"}
DASHES: dict[str, LineStyleType] = {"clients": "-", "epochs": ":"}


def _wanted(scale: Scale) -> dict[Cell, Wanted]:
    return with_seeds(scale, grid(scale), Wanted(tunings=(PAPER_TUNING,)))


def _answer(results: Results) -> Answer:
    return Answer(
        tables=[
            grid_table(results, "Initial accuracy, %", initial),
            grid_table(results, "Personalized accuracy, %", personalized),
        ],
        figure=_draw(results),
        findings=_findings(results),
        notes=_notes(results.scale),
    )


def _notes(scale: Scale) -> list[str]:
    if len({where.tau * where.rounds for where in scale.conditions}) == 1:
        return []
    return [
        (
            "Rounds are the same for every tau here, so more local epochs also mean more training; the paper keeps "
            "their product the same."
        )
    ]


def _findings(results: Results) -> str:
    sentences = []
    for kind, pairs in steps(results.scale.conditions).items():
        if not pairs:
            continue
        for algorithm in PAIR:
            moves = [
                [
                    results.values(Cell(algorithm, shards, after), pick)
                    - results.values(Cell(algorithm, shards, before), pick)
                    for pick in (initial, personalized)
                ]
                for shards in results.scale.shards
                for before, after in pairs
            ]
            first, second = np.array(moves).mean(0)  # over shards and steps, for each seed
            degraded = sum(bool(rise.mean() > 0 > fall.mean()) for rise, fall in moves)
            sentences.append(
                f"With {WORDS[kind]}, {NAMES[algorithm]}'s initial accuracy changes by {change(first)} points and its "
                f"personalized accuracy by {change(second)}; in {degraded} of {len(moves)} comparisons the first rises "
                "while the second falls."
            )
    return " ".join(sentences)


def _draw(results: Results) -> Figure:
    scale = results.scale
    with plotting.style():
        figure = Figure(figsize=(3.7 * len(scale.shards) + 0.6, 4.9), layout="constrained")
        panels = figure.subplots(1, len(scale.shards), squeeze=False)[0]
        for axes, shards in zip(panels, scale.shards, strict=True):
            for place, algorithm in enumerate(PAIR):
                _draw_algorithm(axes, results, algorithm, shards, plotting.COLOURS[place])
            axes.set_title(f"s = {shards}", fontsize=10)
            plotting.label(axes, "initial accuracy, %", "personalized accuracy, %" if shards == scale.shards[0] else "")
        legend = [Line2D([], [], color=plotting.COLOURS[place], label=NAMES[name]) for place, name in enumerate(PAIR)]
        for place, where in enumerate(scale.conditions):
            marker = plotting.MARKERS[place % 6]
            legend.append(Line2D([], [], label=where.words, marker=marker, linestyle="", color=plotting.INK))
        for kind, pairs in steps(scale.conditions).items():
            if pairs:
                legend.append(Line2D([], [], color=plotting.INK, linestyle=DASHES[kind], label=WORDS[kind]))
        figure.legend(handles=legend, loc="outside lower center", ncols=7 if len(legend) < 8 else 5)
    return figure


def _draw_algorithm(axes: Axes, results: Results, algorithm: str, shards: int, colour: str) -> None:
    conditions = results.scale.conditions
    points = {
        where: [results.values(Cell(algorithm, shards, where), pick) for pick in (initial, personalized)]
        for where in conditions
    }
    for kind, pairs in steps(conditions).items():
        for before, after in pairs:
            (x0, y0), (x1, y1) = ([float(values.mean()) for values in points[where]] for where in (before, after))
            axes.plot([x0, x1], [y0, y1], color=colour, linestyle=DASHES[kind], linewidth=1.2)
            middle = ((x0 + x1) / 2, (y0 + y1) / 2)
            ahead = (middle[0] + (x1 - x0) / 50, middle[1] + (y1 - y0) / 50)
            axes.annotate("", ahead, middle, arrowprops={"arrowstyle": "->", "color": colour})
    for place, where in enumerate(conditions):
        across, up = points[where]
        axes.errorbar(
            float(across.mean()),
            float(up.mean()),
            xerr=deviation(across),
            yerr=deviation(up),
            color=colour,
            marker=plotting.MARKERS[place % 6],
            markersize=6.5,
            elinewidth=0.8,
        )


RQ1 = Question(
    1,
    "Can splitting body and head relieve the degradation of personalization under heterogeneous data?",
    _wanted,
    _answer,
)
