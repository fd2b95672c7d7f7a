"""``fbkit bench device``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

import typer

from fbkit.console import Reporter, show, stdout
from fbkit.device_runtime.commands.options import AsJson, BundleFolder

if TYPE_CHECKING:
    from fbkit.benchmarks.device.result import DeviceResult

Turns = Annotated[int, typer.Option(min=1, max=1000, help="How often processes are started and heads are fitted.")]
Pictures = Annotated[
    Path, typer.Argument(help="Folder train/CLASS/PICTURE and test/CLASS/PICTURE.", show_default=False)
]


def device(
    bundle: BundleFolder,
    pictures: Pictures,
    out: Annotated[Path | None, typer.Option(help="File for the result, for fbkit bench report.")] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, max=1024, help="Of an ONNX body; repeatable.", show_default="1 and all cores"),
    ] = None,
    turns: Turns = 5,
    as_json: AsJson = False,
) -> None:
    """Measure opening, predicting and personalizing on this machine; let it have nothing else to do."""
    from fbkit.benchmarks.device.measure import measure_device
    from fbkit.files import write_json

    choices = threads or sorted({1, os.cpu_count() or 1})
    with Reporter(quiet=as_json) as reporter:
        result = measure_device(bundle, pictures, choices, turns, reporter)
    found = result.to_json()
    if out is not None:
        write_json(out, found, compact=True)
    show(found, as_json, lambda: print_result(result))


def print_result(result: DeviceResult) -> None:
    """For people, on a terminal."""
    from rich.table import Table

    machine, subject = result.machine, result.subject
    emulated = " EMULATED: its times say nothing." if machine.emulated else ""
    stdout.print(f"{machine.model or machine.system}: {machine.processor}, {machine.cores} cores.{emulated}")
    stdout.print(f"{subject.name}: {subject.precision}, {subject.pixels} pixels, on {subject.runtime}")
    stdout.print(f"on disk: bundle {result.disk.bundle / 1e6:.1f} MB, what runs it {result.disk.runtime / 1e6:.1f} MB")
    starts = result.start
    for name, what in (("open", "opening"), ("first prediction", "first_prediction")):
        stdout.print(f"{name}: {_milliseconds(getattr(each, what) for each in starts)}")
    for name, what in (("memory", "memory_steady"), ("most memory", "memory_predicting")):
        known = [value for each in starts if (value := getattr(each, what)) is not None]
        if known:
            stdout.print(f"{name} after a prediction: {median(known) / 1e6:.0f} MB")
    table = Table("threads", "pictures at once", "median", "95th", "99th percentile", "pictures a second")
    for each in result.latency:
        times = (f"{1000 * value:.2f} ms" for value in (each.median, each.p95, each.p99))
        table.add_row(str(each.threads or "-"), str(each.batch), *times, f"{each.pictures_per_second:.0f}")
    stdout.print(table, soft_wrap=False)
    table = Table(f"personalizing on {subject.pictures} pictures", *(learned.solver for learned in result.learning))
    for stage in result.learning[0].turns[0]:
        table.add_row(stage, *(_milliseconds(turn[stage] for turn in each.turns) for each in result.learning))
    table.add_row("in all", *(_milliseconds(sum(turn.values()) for turn in each.turns) for each in result.learning))
    for place, when in ((0, "as shipped"), (-1, "afterwards")):
        points = [learned.points[place] for learned in result.learning]
        table.add_row(f"accuracy {when}", *(f"{point.accuracy:.1f}%" for point in points))
        table.add_row(f"loss {when}", *(f"{point.loss:.3f}" for point in points))
    stdout.print(table, soft_wrap=False)


def _milliseconds(seconds: Iterable[float]) -> str:
    return f"{1000 * median(seconds):.1f} ms"
