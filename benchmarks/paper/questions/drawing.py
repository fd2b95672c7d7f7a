"""What the questions' plots have in common: lines with their spread over seeds, and the legends to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from fbkit import plotting
from fbkit.benchmarks.paper.results import Pick, Values, deviation

Way = tuple[str, Pick, LineStyleType]  # a figure's name for people, the figure, the dashes of its line


def draw_line(axes: Axes, across: Sequence[float], found: Sequence[Values], **look: Any) -> None:
    """Means over seeds, with their standard deviations as bars."""
    means, deviations = [float(values.mean()) for values in found], [deviation(values) for values in found]
    axes.errorbar(across, means, yerr=deviations, elinewidth=0.8, **look)


def look(place: int, dashes: LineStyleType) -> dict[str, Any]:
    """Colour and marker of the method at ``place``."""
    return {"color": plotting.COLOURS[place], "marker": plotting.MARKERS[place], "linestyle": dashes}


def draw_legend(figure: Figure, methods: Sequence[str], ways: Sequence[Way]) -> None:
    """Below the figure: each method in each way."""
    lines = [
        Line2D([], [], label=f"{name}, {words}", **look(place, dashes))
        for place, name in enumerate(methods)
        for words, _, dashes in ways
    ]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines))
