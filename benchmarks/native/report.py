"""What ``fbkit bench native`` found, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fbkit.benchmarks.machine import describe_machine
from fbkit.benchmarks.native.beside import NATIVE, PYTHON, Found, Took
from fbkit.files import write_atomic, write_json

SCHEMA, VERSION = "fbkit.bench-native", 1


def to_markdown(found: Sequence[Found], sizes: dict[str, int], turns: int) -> str:
    lines = [
        "# The native runner beside Python",
        "",
        f"Each command in a fresh process, in turns; medians of {turns}. `personalize` with the default solver.",
        "",
        ", ".join(f"{key} {value}" for key, value in describe_machine().items()) + ".",
        "",
        *(f"- {folder}: {size / 1e6:.1f} MB" for folder, size in sizes.items()),
        "",
    ]
    for one in found:
        lines += [f"## {one.bundle}: {one.precision}, {one.pixels} pixels", "", *_times(one), "", *_agreement(one), ""]
    return "\n".join(lines)


def _times(one: Found) -> list[str]:
    python, native = one.times[PYTHON], one.times[NATIVE]

    def seconds(took: Took) -> float:
        return took.seconds

    def megabytes(took: Took) -> float:
        return took.memory / 1e6

    rows = [
        ("predict one picture, s", python.of("predict", seconds), native.of("predict", seconds)),
        ("predict one picture, most memory, MB", python.of("predict", megabytes), native.of("predict", megabytes)),
        (
            f"personalize on {one.pictures} pictures, s",
            python.of("personalize", seconds),
            native.of("personalize", seconds),
        ),
        ("the same without starting and opening, s", python.inner(), native.inner()),
        (
            "personalize, most memory, MB",
            python.of("personalize", megabytes),
            native.of("personalize", megabytes),
        ),
    ]
    return [
        "| | Python | native | Python / native |",
        "|---|---|---|---|",
        *(f"| {what} | {theirs:.3g} | {ours:.3g} | {theirs / ours:.2f} |" for what, theirs, ours in rows),
    ]


def _agreement(one: Found) -> list[str]:
    found = one.agreement
    return [
        "| agreement | |",
        "|---|---|",
        f"| features of {one.pictures} pictures, largest difference over largest value | {found.features:.1e} |",
        f"| head by sgd, the step graph's | {found.sgd:.1e} |",
        f"| head by exact, each within 1e-6 nats a picture of the minimum | {found.exact:.1e} |",
        f"| probabilities of {found.predictions} other pictures, largest difference | {found.probability:.1e} |",
        f"| same class | {found.same} of {found.predictions} |",
    ]


def write_results(found: Sequence[Found], sizes: dict[str, int], turns: int, out: Path) -> str:
    """Write table and figures into ``out``; return the table."""
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "machine": describe_machine(),
        "turns": turns,
        "folders": sizes,
        "found": [asdict(one) for one in found],
    }
    write_json(out / "native.json", result)
    text = to_markdown(found, sizes, turns)
    write_atomic(out / "native.md", text.encode())
    return text
