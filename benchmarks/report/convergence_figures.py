"""Pictures of a comparison: what converges how fast, how many pictures it needs, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fbkit.benchmarks.convergence.groups import Axis, Group, What, line_of, summarize
from fbkit.plotting import COLOURS, DASHES, MARKERS, label, plain_logarithm, style

_ACROSS: dict[Axis, str] = {
    "epochs": "epochs of sgd, iterations of exact",
    "steps": "steps",
    "seen": "pictures shown to the solver",
    "seconds": "milliseconds since the first look",
}
_MOST_COLUMNS = 4
_USUAL = ("sgd", "exact")


def usual(groups: Sequence[Group]) -> list[Group]:
    """On the first target and precision, by the usual solvers: few enough to be told apart."""
    target, precision = groups[0].target, groups[0].precision
    found = [each for each in groups if (each.target, each.precision) == (target, precision)]
    return [each for each in found if each.solver in _USUAL] or found


def columns_of(groups: Sequence[Group]) -> list[int]:
    """Numbers of pictures, at most four of them, from the fewest to the most."""
    counts = sorted({each.per_class for each in groups}, key=lambda count: count or np.inf)
    places = np.linspace(0, len(counts) - 1, min(len(counts), _MOST_COLUMNS)).round().astype(int)
    return [counts[place] for place in places]


def draw_curves(groups: Sequence[Group], axes: Sequence[Axis], what: What = "accuracy") -> Figure:
    """A column for each number of pictures, a row for each axis; bands are 95% intervals of the mean."""
    counts = columns_of(groups)
    kinds = list(dict.fromkeys((each.source, each.solver) for each in groups))
    with style():
        figure = Figure(figsize=(11, 0.7 + 2.7 * len(axes)), layout="constrained")
        panels = figure.subplots(len(axes), len(counts), squeeze=False, sharey=True)
        for row, axis in zip(panels, axes, strict=True):
            for panel, count in zip(row, counts, strict=True):
                for each in (each for each in groups if each.per_class == count):
                    _draw_line(panel, each, axis, what, kinds.index((each.source, each.solver)), kinds)
                label(panel, _ACROSS[axis], ("accuracy, %" if what == "accuracy" else "loss, nats") * (panel is row[0]))
                if axis == "seconds":
                    panel.set_xscale("log")
                    plain_logarithm(panel.xaxis)
                elif axis == "epochs":
                    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
                else:
                    panel.set_xscale("symlog", linthresh=1)
                    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
                if what == "loss":
                    panel.set_yscale("log")
                    plain_logarithm(panel.yaxis)
        for panel, count in zip(panels[0], counts, strict=True):
            panel.set_title(f"{count} {'picture' if count == 1 else 'pictures'} a class" if count else "all pictures")
        handles = [
            Line2D([], [], label=f"{source}, {solver}", **_look(place, kinds))
            for place, (source, solver) in enumerate(kinds)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(kinds)))
    return figure


def _draw_line(panel: Axes, each: Group, axis: Axis, what: What, place: int, kinds: Sequence[tuple[str, str]]) -> None:
    line = line_of(each, axis, what)
    if line is None:
        return
    scale = 1000 if axis == "seconds" else 1
    look = _look(place, kinds)
    few = len(line.across) <= 30
    panel.plot(scale * line.across, line.mean, markevery=None if few else 8, **look)
    panel.fill_between(scale * line.across, line.low, line.high, color=look["color"], alpha=0.15, linewidth=0)


def _look(place: int, kinds: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """A colour for each body and a dash for each solver, where there are several of both; else a colour for each."""
    sources, solvers = (list(dict.fromkeys(names)) for names in zip(*kinds, strict=True))
    source, solver = sources.index(kinds[place][0]), solvers.index(kinds[place][1])
    colour, dash = (source, solver) if len(sources) > 1 else (solver, source)
    look = {"color": COLOURS[colour % 6], "linestyle": DASHES[dash % 6], "marker": MARKERS[solver % 6]}
    return {**look, "markersize": 3.5, "linewidth": 1.4}


def draw_pictures_needed(groups: Sequence[Group]) -> Figure:
    """Accuracy afterwards against pictures a class: mean, and the tenth of the clients that fares worst."""
    kinds = list(dict.fromkeys((each.source, each.solver) for each in groups))
    with style():
        figure = Figure(figsize=(11, 3.9), layout="constrained")
        mean, worst = figure.subplots(1, 2, sharey=True)
        for place, kind in enumerate(kinds):
            mine = sorted(
                (each for each in groups if (each.source, each.solver) == kind and each.per_class),
                key=lambda each: each.per_class,
            )
            found = [summarize(each) for each in mine]
            counts, look = [each.per_class for each in mine], _look(place, kinds)
            if not counts:
                continue
            mean.plot(counts, [each.final for each in found], label=", ".join(kind), **look)
            mean.fill_between(
                counts,
                [each.low for each in found],
                [each.high for each in found],
                color=look["color"],
                alpha=0.15,
                linewidth=0,
            )
            worst.plot(counts, [each.worst for each in found], **look)
        for number, (source, same) in enumerate(groupby(groups, lambda each: each.source)):
            shipped = summarize(next(same)).shipped
            mean.axhline(
                shipped, color=COLOURS[number % 6], linewidth=0.8, linestyle=":", label=f"{source}, as shipped"
            )
        for panel, title in ((mean, "mean over clients"), (worst, "worst tenth of the clients")):
            panel.set_xscale("log")
            counts = sorted({each.per_class for each in groups if each.per_class})
            panel.set_xticks(counts, [str(count) for count in counts])
            panel.minorticks_off()
            panel.set_title(title)
            label(panel, "pictures of a class learned from", "accuracy afterwards, %" if panel is mean else "")
        figure.legend(loc="outside right center")
    return figure


def draw_times(groups: Sequence[Group]) -> Figure:
    """Median time of a personalization with the most pictures: decoding and body, then solver, judging and writing."""
    count = columns_of(groups)[-1]
    bars = [(each, summarize(each)) for each in groups if each.per_class == count and each.solver != "nearest"]
    names = [f"{each.source}, {each.target} {each.precision}, {each.solver}" for each, _ in bars]
    places = np.arange(len(bars))[::-1]
    features = np.array([1000 * (found.features_seconds or 0) for _, found in bars])
    done = np.array([1000 * found.seconds for _, found in bars])
    with style():
        figure = Figure(figsize=(11, 1.3 + 0.3 * len(bars)), layout="constrained")
        panel = figure.subplots()
        panel.barh(places, features, color=COLOURS[5], label="decoding and body")
        panel.barh(places, done - features, left=features, color=COLOURS[1], label="solver, until its last head")
        panel.set_yticks(places, names)
        label(panel, f"milliseconds, {count or 'all'} pictures a class (median over clients)", "")
        figure.legend(loc="outside lower center", ncols=2)
    return figure
