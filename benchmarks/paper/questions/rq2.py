"""RQ2: what a body is worth that was trained under a fixed head: probe and templates, fine-tuning, centralised."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fbkit import plotting
from fbkit.benchmarks.paper.cells import Cell, Scale
from fbkit.benchmarks.paper.questions.drawing import draw_line
from fbkit.benchmarks.paper.questions.question import NAMES, PAIR, Answer, Question, Table, with_seeds
from fbkit.benchmarks.paper.results import Results, change, deviation, pooled, spread, tuned
from fbkit.benchmarks.paper.wanted import Tuning, Wanted

EPOCHS = (1, 2, 3, 5, 10, 20)
TUNINGS = (
    Tuning("head", 0.01, EPOCHS),
    Tuning("head", 0.001, EPOCHS),
    Tuning("body", 0.001, EPOCHS),
    Tuning("full", 0.001, EPOCHS),
)
CENTRAL = ("centralized", "centralized-fixed-head")
BY_POOL = {"accuracy": "model", "probe": "linear probe", "template": "nearest template"}


def _federated(results: Results, algorithm: str, shards: int) -> Cell:
    return Cell(algorithm, shards, results.scale.base)


def _central(scale: Scale, algorithm: str) -> Cell:
    return Cell(algorithm, scale.shards[0], scale.alone)


def _wanted(scale: Scale) -> dict[Cell, Wanted]:
    federated = [Cell(algorithm, shards, scale.base) for algorithm in PAIR for shards in scale.extremes]
    return {
        **with_seeds(scale, federated, Wanted(pooled=True, tunings=TUNINGS)),
        **with_seeds(scale, [_central(scale, algorithm) for algorithm in CENTRAL], Wanted(pooled=True)),
    }


def _answer(results: Results) -> Answer:
    scale = results.scale
    cells = {
        (f"s={shards}", NAMES[algorithm]): _federated(results, algorithm, shards)
        for shards in scale.extremes
        for algorithm in PAIR
    }
    central = {("centralised", NAMES[algorithm]): _central(scale, algorithm) for algorithm in CENTRAL}
    represented = [
        [*names, *(spread(results.values(cell, pooled(what))) for what in BY_POOL)]
        for names, cell in {**cells, **central}.items()
    ]
    fine_tuned = [
        [
            *names,
            f"{tuning.part}, {tuning.lr:g}",
            *(spread(results.values(cell, tuned(tuning.part, tuning.lr, epochs))) for epochs in (0, *EPOCHS)),
        ]
        for names, cell in cells.items()
        for tuning in TUNINGS
    ]
    return Answer(
        tables=[
            Table(
                "Everybody's test pictures in one pool, accuracy in %",
                ("data", "method", *BY_POOL.values()),
                represented,
            ),
            Table(
                "Mean accuracy of the clients after so many epochs of fine-tuning, %",
                ("data", "method", "part, lr", *map(str, (0, *EPOCHS))),
                fine_tuned,
            ),
        ],
        figure=_draw(results),
        findings=_findings(results),
        notes=[
            "The head alone is fine-tuned at two learning rates: 0.01, which suits it, and 0.001 as body and full.",
            (
                f"Centralised: {scale.alone.rounds} rounds of one epoch over all pictures, the same schedule over the "
                "rounds; how the pictures are dealt to clients plays no part in it."
            ),
            "The linear probe is softmax regression fitted to the training pictures' features.",
        ],
    )


def _findings(results: Results) -> str:
    sentences = []
    fedavg, fedbabu = PAIR
    for shards in results.scale.extremes:
        probe, template = (
            results.values(_federated(results, fedbabu, shards), pooled(what))
            - results.values(_federated(results, fedavg, shards), pooled(what))
            for what in ("probe", "template")
        )
        sentences.append(
            f"At s={shards} FedBABU's body differs from FedAvg's by {change(probe)} points under the linear probe and "
            f"by {change(template)} by nearest template."
        )
        for algorithm in PAIR:
            after = {
                (tuning.part, tuning.lr, epochs): results.values(
                    _federated(results, algorithm, shards), tuned(tuning.part, tuning.lr, epochs)
                )
                for tuning in TUNINGS
                for epochs in EPOCHS
            }
            part, lr, epochs = max(after, key=lambda key: float(after[key].mean()))
            sentences.append(
                f"{NAMES[algorithm]} is best there after {epochs} epoch{'s' * (epochs > 1)} of fine-tuning the "
                f"{'whole model' if part == 'full' else part} at {lr:g}: {spread(after[part, lr, epochs])}%."
            )
    learned, fixed = (_central(results.scale, algorithm) for algorithm in CENTRAL)
    model, probe = (
        results.values(fixed, pooled(what)) - results.values(learned, pooled(what)) for what in ("accuracy", "probe")
    )
    sentences.append(
        f"Centralised, the fixed head differs from the learned one by {change(model)} points, and by "
        f"{change(probe)} under the probe."
    )
    return " ".join(sentences)


def _draw(results: Results) -> Figure:
    scale = results.scale
    with plotting.style():
        figure = Figure(figsize=(11, 8.4), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=(5, 4))
        above, below = halves
        curves = above.subplots(1, 2, sharey=True)
        for axes, shards in zip(curves, scale.extremes, strict=True):
            _draw_curves(axes, results, shards)
        legend = [
            Line2D([], [], color=plotting.COLOURS[place], label=f"{tuning.part}, lr {tuning.lr:g}")
            for place, tuning in enumerate(TUNINGS)
        ]
        for place, name in enumerate(PAIR):
            legend.append(Line2D([], [], color=plotting.INK, label=NAMES[name], **_look(place)))
        above.legend(handles=legend, loc="outside lower center", ncols=6)
        bars = below.subplots(1, 3, sharey=True)
        groups = [
            (f"s = {shards}, one pool", {name: _federated(results, name, shards) for name in PAIR})
            for shards in scale.extremes
        ]
        groups.append(("centralised, one pool", {name: _central(scale, name) for name in CENTRAL}))
        for axes, (title, cells) in zip(bars, groups, strict=True):
            axes.set_title(title, fontsize=10)
            _draw_bars(axes, results, cells)
        plotting.label(bars[0], "", "accuracy, %")
    return figure


def _look(place: int) -> dict[str, Any]:
    return {"linestyle": ("--", "-")[place], "marker": plotting.MARKERS[place], "markersize": 4}


def _draw_curves(axes: Axes, results: Results, shards: int) -> None:
    for place, algorithm in enumerate(PAIR):
        cell = _federated(results, algorithm, shards)
        for colour, tuning in zip(plotting.COLOURS, TUNINGS, strict=False):
            found = [results.values(cell, tuned(tuning.part, tuning.lr, epochs)) for epochs in (0, *EPOCHS)]
            draw_line(axes, (0, *EPOCHS), found, color=colour, **_look(place))
    axes.set_title(f"s = {shards}", fontsize=10)
    axes.set_xticks((0, *EPOCHS))
    plotting.label(
        axes, "epochs of fine-tuning", "accuracy, mean over clients, %" if shards == results.scale.shards[0] else ""
    )


def _draw_bars(axes: Axes, results: Results, cells: dict[str, Cell]) -> None:
    for place, (name, cell) in enumerate(cells.items()):
        found = [results.values(cell, pooled(what)) for what in BY_POOL]
        bars = axes.bar(
            [group + 0.38 * (place - 0.5) for group in range(len(BY_POOL))],
            [float(values.mean()) for values in found],
            0.36,
            yerr=[deviation(values) for values in found],
            color=plotting.COLOURS[place],
            ecolor=plotting.INK,
            label=NAMES[name],
        )
        axes.bar_label(bars, fmt="%.1f", fontsize=7.5, padding=2)
    axes.set_xticks(range(len(BY_POOL)), list(BY_POOL.values()), fontsize=9)
    axes.grid(visible=False, axis="x")
    axes.set_ylim(0, 118)  # room for the legend
    axes.set_yticks(range(0, 101, 20))
    axes.legend(fontsize=8, loc="upper left", ncols=2)


RQ2 = Question(
    2,
    "Does freezing the head in federated training improve the general representation, and so later fine-tuning?",
    _wanted,
    _answer,
)
