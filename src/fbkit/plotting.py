"""How fbkit's plots look: colours, lines, and SVG that takes on the page's own ink."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

# Told apart by eyes with any colour vision, on light and dark ground (Okabe and Ito's palette, the middle tones).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)))  # so that a line shows through one that lies on it

# Drawn in this colour, a figure's frame and words take on the page's own when it is put inside HTML.
INK = "#4d4d4e"


def style() -> AbstractContextManager[None]:
    """Matplotlib's settings for a figure; to be in force while it is drawn and while it is saved."""
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "fbkit",
            "font.family": "sans-serif",
            "font.size": 10,
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
        }
    )


def line(place: int, name: str) -> dict[str, Any]:
    """Colour, dashes and label of the line that stands at ``place`` in the legend, counted from 0."""
    return {"color": COLOURS[place % 6], "linestyle": DASHES[(place + place // 6) % 6], "label": name}


def label(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def plain_logarithm(axis: XAxis | YAxis) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def to_svg(figure: Figure) -> str:
    """A figure as an SVG element whose frame and words are drawn in the surrounding text's colour."""
    text = io.StringIO()
    with style():
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def save(figure: Figure, path: Path) -> None:
    """Write a figure as ``path``.png and ``path``.svg."""
    with style():
        figure.savefig(path.with_suffix(".png"), dpi=150)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
