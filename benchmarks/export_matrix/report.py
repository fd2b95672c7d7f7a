"""The matrix as a table and a plot."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.benchmarks.export_matrix.cells import Cell
from fbkit.benchmarks.export_matrix.results import Found
from fbkit.benchmarks.machine import describe_machine
from fbkit.device_runtime.manifest import PRECISIONS, TARGETS
from fbkit.export.verification import MOST_LOSS
from fbkit.files import write_atomic

COLUMNS = (
    *("model", "weights", "pictures", "target", "precision", "body, MB"),
    *("accuracy: torch", "bundle", "points lost", "worst error", "RMS error", "same top 1"),
    *("ms alone", "ms in 32", "ms to open", "memory, MB", "kept fp32"),
)
LEGEND = (
    "Accuracy, errors and top 1 (percent of the predictions that are torch's in fp32) are of 1,000 pictures that did "
    "not calibrate. Errors are of the features, relative to torch's: the worst to the largest feature, RMS to the root "
    "mean square. Times are of the body on one thread, medians: an image alone, an image of a batch of 32, and from "
    "the file's bytes to the first image's features. Memory is the most that reading and opening the bundle and one "
    "image take beyond the runtime itself. Kept fp32: what export advised to keep where int8 cost more than "
    f"{MOST_LOSS:g} points. Trained: with FedBABU, for some minutes, on the embedded Fashion-MNIST pictures. "
    "Untrained: a random start; normalisation statistics and all figures are of coloured pictures, whose channels are "
    "three of the embedded ones."
)


def table(found: Sequence[Found]) -> list[list[str]]:
    """The header, then a row for each cell."""
    return [list(COLUMNS), *map(_row, found)]


def _row(one: Found) -> list[str]:
    accepted = one.lost is not None and one.lost > MOST_LOSS
    return [
        one.model,
        "trained" if one.trained else "untrained",
        "x".join(map(str, one.shape)),
        one.target,
        one.precision,
        f"{one.body_bytes / 1e6:.2f}",
        *("" if value is None else f"{value:.1f}%" for value in (one.torch_accuracy, one.bundle_accuracy)),
        "" if one.lost is None else f"{one.lost:.1f}" + (", accepted" if accepted else ""),
        *(f"{value:.1e}" for value in (one.feature_error, one.feature_error_l2)),
        f"{one.agreement:.1f}%",
        *(f"{value:.3g}" for value in (one.alone_ms, one.batch_ms, one.opening_ms)),
        "" if one.peak_bytes is None else f"{one.peak_bytes / 1e6:.0f}",
        ", ".join(one.keep_float),
    ]


def to_markdown(found: Sequence[Found], failed: Mapping[Cell, str]) -> str:
    """Table, legend, machine and failures, for people and screens alike: columns are padded."""
    rows = table(found)
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    rows.insert(1, ["-" * width for width in widths])
    lines = [
        *("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows),
        "",
        LEGEND,
        "",
        ", ".join(f"{key} {value}" for key, value in describe_machine().items()) + ".",
        *(["", *(f"- {cell}: {message}" for cell, message in failed.items())] if failed else []),
    ]
    return "\n".join(lines) + "\n"


def write_markdown(text: str, path: Path) -> None:
    write_atomic(path, text.encode())


def draw(found: Sequence[Found], path: Path) -> None:
    """Bytes and time of an image: a row for each model, in it a line for each target, from int8 to fp32."""
    names = list(dict.fromkeys(one.model for one in found))
    with plotting.style():
        figure = Figure(figsize=(10, 0.42 * len(names) + 1.6), layout="constrained")
        size, time = figure.subplots(1, 2, sharey=True)
        _draw_values(size, names, found, lambda one: one.body_bytes / 1e6)
        _draw_values(time, names, found, lambda one: one.alone_ms)
        size.set_yticks(range(len(names)), names)
        size.invert_yaxis()
        plotting.label(size, "body, MB", "")
        plotting.label(time, "an image alone, one thread, ms", "")
        figure.legend(*size.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    plotting.save(figure, path)


def _draw_values(axes: Axes, names: Sequence[str], found: Sequence[Found], value: Callable[[Found], float]) -> None:
    def heights(chosen: Sequence[Found]) -> list[float]:
        return [names.index(one.model) + 0.3 * (TARGETS.index(one.target) - 0.5) for one in chosen]

    for marker, target in zip(plotting.MARKERS, TARGETS, strict=False):
        for colour, precision in zip(plotting.COLOURS, PRECISIONS, strict=False):
            chosen = [one for one in found if (one.target, one.precision) == (target, precision)]
            axes.plot(
                list(map(value, chosen)),
                heights(chosen),
                marker,
                color=colour,
                markersize=5,
                label=f"{target}, {precision}",
            )
        for name in names:
            ends = [one for one in found if (one.model, one.target) == (name, target)]
            axes.plot(list(map(value, ends)), heights(ends), color=plotting.INK, linewidth=0.7, alpha=0.5, zorder=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(visible=False, axis="y")
