"""RQ5: FedProx with and without a trained head, over its penalty mu."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.benchmarks.paper.cells import Cell, Scale
from fbkit.benchmarks.paper.questions.drawing import Way, draw_legend, draw_line, look
from fbkit.benchmarks.paper.questions.question import NAMES, Answer, Question, methods_table, with_seeds
from fbkit.benchmarks.paper.results import Results, change, initial, personalized
from fbkit.benchmarks.paper.wanted import PAPER_TUNING, Wanted

# Each regularised method and what it is without the penalty.
FAMILIES = {"fedprox": "fedavg", "fedprox-babu": "fedbabu"}
WAYS: tuple[Way, ...] = (("personalized", personalized, "-"), ("initial", initial, "--"))


def _cell(scale: Scale, family: str, mu: float) -> Callable[[int], Cell]:
    """mu of 0 stands for the control."""
    if mu:
        return lambda shards: Cell(family, shards, scale.base, mu=mu)
    return lambda shards: Cell(FAMILIES[family], shards, scale.base)


def _wanted(scale: Scale) -> dict[Cell, Wanted]:
    cells = [
        _cell(scale, family, mu)(shards) for family in FAMILIES for mu in (0.0, *scale.mus) for shards in scale.shards
    ]
    return with_seeds(scale, cells, Wanted(tunings=(PAPER_TUNING,)))


def _answer(results: Results) -> Answer:
    scale = results.scale
    methods = []
    for family, control in FAMILIES.items():
        methods.append((NAMES[control], _cell(scale, family, 0.0)))
        methods += [(f"{NAMES[family]}, mu={mu:g}", _cell(scale, family, mu)) for mu in scale.mus]
    return Answer(
        tables=[
            methods_table(results, "Initial accuracy, %", methods, initial),
            methods_table(results, "Personalized accuracy, %", methods, personalized),
        ],
        figure=_draw(results),
        findings=_findings(results),
        notes=["FedAvg and FedBABU are the controls: the same without FedProx's penalty."],
    )


def _findings(results: Results) -> str:
    scale = results.scale

    def mean(family: str, mu: float) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """Initial and personalized, for each seed the mean over s."""
        cell = _cell(scale, family, mu)
        return [
            np.mean([results.values(cell(shards), pick) for shards in scale.shards], axis=0)
            for pick in (initial, personalized)
        ]

    sentences = []
    for mu in (0.0, *scale.mus):
        plain, babu = mean("fedprox", mu), mean("fedprox-babu", mu)
        names = (NAMES["fedprox-babu"], NAMES["fedprox"]) if mu else (NAMES["fedbabu"], NAMES["fedavg"])
        where = f" at mu={mu:g}" if mu else ", the controls,"
        sentences.append(
            f"Over all s, {names[0]} and {names[1]}{where} differ by {change(babu[0] - plain[0])} points before and "
            f"{change(babu[1] - plain[1])} after personalization."
        )
    for family, control in FAMILIES.items():
        best = max(scale.mus, key=lambda mu: float(mean(family, mu)[1].mean()))
        difference = mean(family, best)[1] - mean(family, 0.0)[1]
        sentences.append(
            f"{NAMES[family]} is personalized best at mu={best:g}, {change(difference)} points from {NAMES[control]}."
        )
    return " ".join(sentences)


def _draw(results: Results) -> Figure:
    scale = results.scale
    with plotting.style():
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        panels = figure.subplots(1, len(scale.shards), sharey=True, squeeze=False)[0]
        for axes, shards in zip(panels, scale.shards, strict=True):
            for place, family in enumerate(FAMILIES):
                for _, pick, dashes in WAYS:
                    found = [results.values(_cell(scale, family, mu)(shards), pick) for mu in (0.0, *scale.mus)]
                    draw_line(axes, range(len(found)), found, **look(place, dashes))
            axes.set_title(f"s = {shards}", fontsize=10)
            axes.set_xticks(range(1 + len(scale.mus)), ["none", *(f"{mu:g}" for mu in scale.mus)])
            plotting.label(axes, "mu (none: FedAvg, FedBABU)", "")
        panels[0].set_ylabel("accuracy, mean over clients, %")
        draw_legend(figure, [NAMES[family] for family in FAMILIES], WAYS)
    return figure


RQ5 = Question(5, "Does it extend to regularised frameworks such as FedProx?", _wanted, _answer)
