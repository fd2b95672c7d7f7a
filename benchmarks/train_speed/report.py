"""What ``fbkit bench train`` leaves: a CSV, a table for people as Markdown, and a plot."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from fbkit import plotting
from fbkit.benchmarks.machine import describe_machine
from fbkit.benchmarks.train_speed.compare import GOALS, Measured, overhead_of_a_round, ratio

COLUMNS = ("contender", "threads", "turn", "pictures_per_second", "startup_seconds", "peak_bytes", "accuracy")


def write_csv(found: Mapping[str, Measured], path: Path) -> None:
    """A row for each contender and turn."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, measured in found.items():
            accuracy = "" if measured.accuracy is None else f"{measured.accuracy:.2f}"
            for turn, speed in enumerate(measured.speeds):
                numbers = (f"{speed:.1f}", f"{measured.startup_seconds:.2f}", measured.peak_bytes, accuracy)
                writer.writerow((name, measured.threads, turn, *numbers))


def table(found: Mapping[str, Measured], pictures: int) -> list[list[str]]:
    """The header, then a row for each contender; ``pictures``: of a round."""
    rows = [["contender", "pictures/s", "of the bare loop", "overhead a round", "start", "memory", "accuracy"]]
    for name, measured in found.items():
        share = ratio(found, name, measured.limit)[0]
        is_bare = name == measured.limit
        rows.append(
            [
                name,
                f"{measured.speed:.0f} ({min(measured.speeds):.0f} to {max(measured.speeds):.0f})",
                "" if is_bare else f"{100 * share:.0f}%",
                "" if is_bare else f"{1000 * overhead_of_a_round(found, name, pictures):+.0f} ms",
                f"{measured.startup_seconds:.1f} s",
                f"{measured.peak_bytes / 2**20:.0f} MiB",
                "" if measured.accuracy is None else f"{measured.accuracy:.1f}%",
            ]
        )
    return rows


def goals(found: Mapping[str, Measured]) -> list[str]:
    """Each goal that can be judged, beside what was measured."""
    lines = []
    for goal in GOALS:
        if goal.one in found and goal.other in found:
            median, lowest, highest = ratio(found, goal.one, goal.other)
            lines.append(
                f"{goal.one} against {goal.other}: {median:.2f} times ({lowest:.2f} to {highest:.2f}), "
                f"the goal is {goal.at_least:g}: {'reached' if median >= goal.at_least else 'missed'}"
            )
    return lines


def write_markdown(found: Mapping[str, Measured], pictures: int, how: str, path: Path) -> None:
    rows = table(found, pictures)
    versions = {name: version for measured in found.values() for name, version in measured.versions.items()}
    machine = describe_machine() | {f"{name} (rivals')": version for name, version in versions.items()}
    notes = dict.fromkeys(note for measured in found.values() for note in measured.notes)
    lines = [
        "# How fast fbkit trains",
        "",
        how,
        "",
        ", ".join(f"{key} {value}" for key, value in machine.items()) + ".",
        "",
        *("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]),
        "",
        *(f"- {line}" for line in [*goals(found), *notes]),
        "",
    ]
    path.write_text("\n".join(lines))


def draw(found: Mapping[str, Measured], path: Path) -> None:
    """Bars of pictures a second with every turn as a dot."""
    with plotting.style():
        figure = Figure(figsize=(8.5, 0.45 * len(found) + 1.1), layout="constrained")
        axes = figure.subplots()
        for row, (name, measured) in enumerate(found.items()):
            place = 0 if name.startswith("fbkit") else 1 if name == measured.limit else 2
            axes.barh(row, measured.speed, 0.66, color=plotting.COLOURS[place], alpha=0.75)
            axes.plot(measured.speeds, [row] * len(measured.speeds), ".", color=plotting.INK, markersize=4)
            axes.annotate(f" {measured.speed:.0f}", (max(measured.speeds), row), va="center", fontsize=9)
        axes.set_yticks(range(len(found)), list(found))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        plotting.label(axes, "pictures a second", "")
    plotting.save(figure, path)
