"""The pictures in reports: accuracy over rounds, and over fine-tuning epochs and seconds."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Told apart by eyes with any colour vision, on light and dark ground (Okabe and Ito's palette, the middle tones).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))  # so that a line shows through one that lies on it

# Drawn in this colour, a figure's frame and words take on the page's own when it is put inside HTML.
_INK = "#4d4d4e"


def plot_convergence(result: dict[str, Any]) -> Figure:
    """Test accuracy and test loss against epochs and against time; thick a bundle's mean, thin its single clients."""
    with _style():
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        panels = figure.subplots(2, 2)
        for place, (name, bundle) in enumerate(result["bundles"].items()):
            thick = {"marker": MARKERS[place % 6], "markersize": 3.5, **_line(place, name)}
            thin = {"color": thick["color"], "linewidth": 0.7, "alpha": min(0.3, 6 / len(bundle["clients"]))}
            for values, style in [(bundle, thick), *((client, thin) for client in bundle["clients"].values())]:
                # Nothing is learned until the features are there, so lines over time stay level up to that moment.
                times = [0, bundle["seconds_features"], *values["seconds"][1:]]
                for row, key in zip(panels, ("test_accuracy", "test_loss"), strict=True):
                    row[0].plot(bundle["epochs"], values[key], **style)
                    if values is bundle:
                        row[1].plot([1000 * time for time in times], [values[key][0], *values[key]], **style)
        for row, up in zip(panels, ("test accuracy, %", "test loss, nats"), strict=True):
            _label(row[0], "epochs of head fine-tuning", up)
            row[0].xaxis.set_major_locator(MaxNLocator(integer=True))
            _label(row[1], "milliseconds since the first look at the pictures", up)
        for axes in panels[1]:
            axes.set_yscale("log")
            axes.set_ylim(bottom=min(min(bundle["test_loss"]) for bundle in result["bundles"].values()) / 5)
        panels[0][0].legend()
    return figure


def plot_rounds(runs: dict[str, Sequence[dict[str, Any]]]) -> Figure:
    """Accuracy before personalization and training loss against federated rounds, one line a run."""
    with _style():
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        accuracies, losses = figure.subplots(1, 2)
        for place, (name, lines) in enumerate(runs.items()):
            line = _line(place, name)
            judged = [entry for entry in lines if "initial_accuracy" in entry]
            rounds = [entry["round"] for entry in judged]
            accuracies.plot(rounds, [entry["initial_accuracy"] for entry in judged], marker=MARKERS[place % 6], **line)
            losses.plot([entry["round"] for entry in lines], [entry["train_loss"] for entry in lines], **line)
        _label(accuracies, "federated rounds", "accuracy before personalization, %")
        _label(losses, "federated rounds", "local training loss, nats")
        accuracies.legend()
    return figure


def to_svg(figure: Figure) -> str:
    """A figure as an SVG element whose frame and words are drawn in the surrounding text's colour."""
    text = io.StringIO()
    with _style():
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(_INK, "currentColor")


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "fbkit",
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": _INK,
            "axes.edgecolor": _INK,
            "axes.labelcolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
        }
    )


def _line(place: int, name: str) -> dict[str, Any]:
    return {"color": COLOURS[place % 6], "linestyle": DASHES[place % 6], "label": name}


def _label(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)
