"""RQ3: all methods, before and after personalization, across heterogeneity."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.benchmarks.paper.cells import Cell, Scale
from fbkit.benchmarks.paper.questions.question import NAMES, Answer, Question, methods_table, with_seeds
from fbkit.benchmarks.paper.results import Results, change, deviation, initial, personalized, spread
from fbkit.benchmarks.paper.wanted import PAPER_TUNING, Wanted
from fbkit.train.recipe import OWN_PART

METHODS = (
    "fedavg",
    "fedprox",
    "fedbabu",
    "fedprox-babu",
    "per-fedavg",
    "fedper",
    "fedrep",
    "lg-fedavg",
    "ditto",
    "local-only",
)


def _cell(scale: Scale, algorithm: str) -> Callable[[int], Cell]:
    return lambda shards: Cell(algorithm, shards, scale.alone if algorithm == "local-only" else scale.base)


def _wanted(scale: Scale) -> dict[Cell, Wanted]:
    cells = [_cell(scale, algorithm)(shards) for algorithm in METHODS for shards in scale.shards]
    return with_seeds(scale, cells, Wanted(tunings=(PAPER_TUNING,)))


def _label(algorithm: str) -> str:
    own = OWN_PART.get(algorithm)
    return f"{NAMES[algorithm]} (own {own})" if own else NAMES[algorithm]


def _answer(results: Results) -> Answer:
    scale = results.scale
    methods = [(_label(algorithm), _cell(scale, algorithm)) for algorithm in METHODS]
    without = [
        f"{_label(algorithm)} at s={shards}: {', '.join(map(str, numbers))}"
        for algorithm in METHODS
        for shards in scale.shards
        if any(numbers := [int(n) for n in results.values(_cell(scale, algorithm)(shards), lambda it: it.without_own)])
    ]
    notes = [
        (
            "Methods marked (own ...) leave that part of the model with each client: their initial accuracy is with "
            "the client's own part, so it is personalized already; that of the others is of one model for all."
        ),
        (
            f"Local only: every client trains alone for {scale.alone.rounds} epochs (all {scale.clients} clients in "
            f"each of {scale.alone.rounds} rounds); sampled like the others it would only see about "
            f"{scale.base.f * scale.base.tau * scale.base.rounds:g}."
        ),
        "FedRep's head epochs, Per-FedAvg's inner rate and Ditto's pull are the recipe's defaults, mu is 0.01.",
    ]
    if without:
        notes.append(
            "Clients that were never sampled have no own part and are judged with what the server holds. Their number "
            f"of {scale.clients} by seed: {'; '.join(without)}."
        )
    return Answer(
        tables=[
            methods_table(results, "Initial accuracy, %", methods, initial),
            methods_table(results, "Personalized accuracy, %", methods, personalized),
        ],
        figure=_draw(results),
        findings=_findings(results),
        notes=notes,
    )


def _findings(results: Results) -> str:
    sentences = []
    for shards in results.scale.shards:
        after = {
            algorithm: results.values(_cell(results.scale, algorithm)(shards), personalized) for algorithm in METHODS
        }
        best, second, *_, last = sorted(after, key=lambda algorithm: -float(after[algorithm].mean()))
        sentences.append(
            f"At s={shards} {NAMES[best]} is personalized best ({spread(after[best])}%), {NAMES[second]} follows "
            f"({change(after[second] - after[best])} points), {NAMES[last]} comes last ({spread(after[last])}%); "
            f"FedBABU differs from FedAvg by {change(after['fedbabu'] - after['fedavg'])}."
        )
    return " ".join(sentences)


def _draw(results: Results) -> Figure:
    scale = results.scale
    with plotting.style():
        figure = Figure(figsize=(11, 4.8), layout="constrained")
        panels = figure.subplots(1, len(scale.shards), sharey=True, squeeze=False)[0]
        for axes, shards in zip(panels, scale.shards, strict=True):
            for row, algorithm in enumerate(METHODS):
                cell = _cell(scale, algorithm)(shards)
                before, after = results.values(cell, initial), results.values(cell, personalized)
                axes.plot([before.mean(), after.mean()], [row, row], color=plotting.INK, linewidth=0.8, alpha=0.6)
                for values, look in (
                    (before, {"color": plotting.COLOURS[1], "marker": "o", "markerfacecolor": "white", "zorder": 3}),
                    (after, {"color": plotting.COLOURS[0], "marker": "o", "zorder": 4}),
                ):
                    name = ("initial" if values is before else "personalized") if row == 0 else None
                    axes.errorbar(
                        float(values.mean()),
                        row,
                        xerr=deviation(values),
                        linestyle="",
                        label=name,
                        **look,
                    )
            axes.set_title(f"s = {shards}", fontsize=10)
            plotting.label(axes, "accuracy, mean over clients, %", "")
        panels[0].set_yticks(range(len(METHODS)), [_label(algorithm) for algorithm in METHODS])
        panels[0].invert_yaxis()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


RQ3 = Question(
    3,
    "How do FedBABU, FedAvg and the other methods compare, initial and personalized, across heterogeneity?",
    _wanted,
    _answer,
)
