"""The pictures in reports: accuracy over rounds, and over fine-tuning epochs and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fbkit.benchmarks.convergence.groups import Group
from fbkit.plotting import MARKERS, label, line, style


def plot_convergence(groups: Sequence[Group]) -> Figure:
    """Test accuracy and test loss against epochs and against time; thick a bundle's mean, thin its single clients."""
    with style():
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        panels = figure.subplots(2, 2)
        least = min(min(curve.loss or (1.0,)) for group in groups for curve in group.curves)
        for place, group in enumerate(groups):
            thick = {"marker": MARKERS[place % 6], "markersize": 3.5, **line(place, group.source)}
            thin = {"color": thick["color"], "linewidth": 0.7, "alpha": min(0.3, 6 / len(group.curves))}
            # Nothing is learned until the features are there, so lines over time stay level up to that moment.
            seconds = np.median([curve.seconds for curve in group.curves], axis=0)
            ready = np.median([curve.features_seconds or 0.0 for curve in group.curves])
            times = 1000 * np.array([0, ready, *seconds[1:]])
            for row, what in zip(panels, ("accuracy", "loss"), strict=True):
                table = np.array([getattr(curve, what) for curve in group.curves])
                for values in table:
                    row[0].plot(group.curves[0].epochs, values, **thin)
                mean = table.mean(0)
                row[0].plot(group.curves[0].epochs, mean, **thick)
                row[1].plot(times, [mean[0], *mean], **thick)
        for row, up in zip(panels, ("test accuracy, %", "test loss, nats"), strict=True):
            label(row[0], "epochs of head fine-tuning", up)
            row[0].xaxis.set_major_locator(MaxNLocator(integer=True))
            label(row[1], "milliseconds since the first look at the pictures", up)
        for axes in panels[1]:
            axes.set_yscale("log")
            axes.set_ylim(bottom=max(least, 1e-6))
        panels[0][0].legend()
    return figure


def plot_rounds(runs: dict[str, Sequence[dict[str, Any]]]) -> Figure:
    """Accuracy before personalization and training loss against federated rounds, one line a run."""
    with style():
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        accuracies, losses = figure.subplots(1, 2)
        for place, (name, lines) in enumerate(runs.items()):
            look = line(place, name)
            judged = [entry for entry in lines if "initial_accuracy" in entry]
            rounds = [entry["round"] for entry in judged]
            accuracies.plot(rounds, [entry["initial_accuracy"] for entry in judged], marker=MARKERS[place % 6], **look)
            losses.plot([entry["round"] for entry in lines], [entry["train_loss"] for entry in lines], **look)
        label(accuracies, "federated rounds", "accuracy before personalization, %")
        label(losses, "federated rounds", "local training loss, nats")
        accuracies.legend()
    return figure
