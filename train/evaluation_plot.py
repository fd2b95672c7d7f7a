"""The picture of an evaluation: fine-tuning curves, and how unlike the clients are."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fbkit import plotting
from fbkit.train.evaluation_report import figures_of
from fbkit.train.records import Evaluation, PersonalizedAccuracies


def plot_evaluation(evaluation: Evaluation, title: str) -> Figure:
    """Left: mean accuracy against fine-tuning epochs, shaded one deviation across clients. Right: every client."""
    with plotting.style():
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        curves, spread = figure.subplots(1, 2, width_ratios=(3, 2))
        figure.suptitle(title)
        starts = dict(evaluation.initial.measured())
        lines: dict[tuple[str, float, str], list[PersonalizedAccuracies]] = {}
        for after in evaluation.personalized:
            lines.setdefault((after.part, after.lr, after.statistics), []).append(after)
        for place, ((part, lr, statistics), found) in enumerate(lines.items()):
            points = sorted(found, key=lambda after: after.epochs)
            start = starts.get("batch" if statistics == "batch" else "static")
            epochs = [0, *(point.epochs for point in points)] if start else [point.epochs for point in points]
            all_points = [start, *points] if start else [*points]
            means = np.array([point.mean for point in all_points])
            deviations = np.array([point.std for point in all_points])
            look = plotting.line(place, f"{part}, lr {lr:g}, {statistics}")
            curves.plot(epochs, means, marker="o", markersize=3.5, **look)
            curves.fill_between(
                epochs, means - deviations, np.minimum(means + deviations, 100), color=look["color"], alpha=0.08
            )
        for place, (statistics, start) in enumerate(starts.items()):
            if not lines:
                curves.plot([0], [start.mean], marker="o", **plotting.line(place, f"initial, {statistics}"))
        plotting.label(curves, "epochs of fine-tuning", "test accuracy, mean over clients, %")
        curves.xaxis.set_major_locator(MaxNLocator(integer=True))
        curves.legend(fontsize=8)
        shown = list(figures_of(evaluation))
        spread.boxplot([entry.accuracies.per_client for entry in shown], orientation="horizontal", widths=0.6)
        spread.set_yticks(range(1, len(shown) + 1), [_short(entry.words) for entry in shown], fontsize=7)
        spread.invert_yaxis()
        plotting.label(spread, "test accuracy of single clients, %", "")
    return figure


def _short(words: str) -> str:
    for long, short in (
        ("before personalization", "initial"),
        ("nearest class template, no head", "templates"),
        ("after ", ""),
        (" fine-tuning", ""),
        (" statistics", ""),
    ):
        words = words.replace(long, short)
    return words
