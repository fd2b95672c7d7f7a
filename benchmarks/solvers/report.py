"""Mean accuracies, and whether one way is better than another beyond chance, as table and plot."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.benchmarks.solvers.measure import SIZES, WAYS, Measured

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Difference:
    """By how many points ``way`` is better than SGD in the mean over clients and sizes, with a 95% interval."""

    mean: float
    low: float
    high: float


def write_csv(measured: Sequence[Measured], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Measured)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in measured)


def difference(measured: Sequence[Measured], way: str) -> Difference:
    """``way`` beside ``sgd``: a bootstrap over clients, each with all its sizes (Efron and Tibshirani, 1993, ch. 13).

    A client counts as one with each body that it was measured with.
    """
    clients: dict[tuple[str, int, int, int], dict[str, list[float]]] = {}
    for row in measured:
        key = (row.algorithm, row.shards, row.seed, row.client)
        clients.setdefault(key, {}).setdefault(row.way, []).append(row.accuracy)
    gains = np.array([np.mean(ways[way]) - np.mean(ways["sgd"]) for ways in clients.values()])
    drawn = np.random.default_rng(0).integers(0, len(gains), (_RESAMPLES, len(gains)))
    low, high = np.percentile(gains[drawn].mean(1), [2.5, 97.5])
    return Difference(float(gains.mean()), float(low), float(high))


def to_markdown(measured: Sequence[Measured]) -> str:
    lines = []
    for algorithm, shards in _bodies(measured):
        lines += [
            f"**{algorithm}, {shards} shards a client**",
            "",
            "| pictures a class | " + " | ".join(WAYS) + " |",
            "|---|" + "---|" * len(WAYS),
        ]
        means = _means(measured, algorithm, shards)
        for size, row in zip(SIZES, means, strict=True):
            lines.append(f"| {size} | " + " | ".join(f"{value:.1f}" for value in row) + " |")
        lines += ["| mean | " + " | ".join(f"{value:.1f}" for value in means.mean(0)) + " |", ""]
    lines += ["| | points above SGD | 95% interval | ms a fit, median |", "|---|---|---|---|"]
    for way in WAYS:
        milliseconds = 1000 * float(np.median([row.seconds for row in measured if row.way == way]))
        found = difference(measured, way)
        lines.append(f"| {way} | {found.mean:+.2f} | {found.low:+.2f} to {found.high:+.2f} | {milliseconds:.1f} |")
    return "\n".join(lines) + "\n"


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Points above SGD against pictures a class, a panel for each body; accuracies lie too close to tell them apart."""
    bodies, ways = _bodies(measured), [way for way in WAYS if way.startswith("exact")]
    rows = -(-len(bodies) // 2)
    with plotting.style():
        figure = Figure(figsize=(9, 0.5 + 2.6 * rows), layout="constrained")
        panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).flat
        for (algorithm, shards), axes in zip(bodies, panels, strict=False):
            means = _means(measured, algorithm, shards)
            sgd = means[:, list(WAYS).index("sgd")]
            axes.axhline(0, color=plotting.INK, linewidth=0.8)
            for place, way in enumerate(ways):
                gains = means[:, list(WAYS).index(way)] - sgd
                axes.plot(SIZES, gains, marker=plotting.MARKERS[place], **plotting.line(place, way))
            axes.set_xscale("log")
            axes.set_xticks(SIZES, [str(size) for size in SIZES])
            axes.minorticks_off()
            axes.set_title(f"{algorithm}, {shards} shards a client")
        figure.supxlabel("pictures of each class to learn from", fontsize="medium")
        figure.supylabel("points above SGD", fontsize="medium")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(ways))
    plotting.save(figure, path)


def _bodies(measured: Sequence[Measured]) -> list[tuple[str, int]]:
    return list(dict.fromkeys((row.algorithm, row.shards) for row in measured))


def _means(measured: Sequence[Measured], algorithm: str, shards: int) -> npt.NDArray[np.float64]:
    """Mean accuracies of one body's clients: float64 [sizes, ways]."""
    cells: dict[tuple[int, str], list[float]] = {}
    for row in measured:
        if (row.algorithm, row.shards) == (algorithm, shards):
            cells.setdefault((row.size, row.way), []).append(row.accuracy)
    return np.array([[np.mean(cells[size, way]) for way in WAYS] for size in SIZES])
