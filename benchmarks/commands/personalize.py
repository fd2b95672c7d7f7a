"""``fbkit bench personalize``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, stdout
from fbkit.errors import require


def personalize_bench(
    out: Annotated[Path, typer.Option(help="Folder for run, bundles and report; one that is there is gone on with.")],
    size: Annotated[
        list[int] | None,
        typer.Option(min=32, max=512, help="Of the body's pictures; repeatable.", show_default="96, 224"),
    ] = None,
    pictures: Annotated[int, typer.Option(min=5, max=1000, help="JPEG files to learn from.")] = 100,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Of everyone's schedule.")] = 5,
    turns: Annotated[int, typer.Option(min=1, max=1000, help="How often each way is taken.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Default: one for each core.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Of the model's training; default: what it needs.")
    ] = None,
) -> None:
    """Personalize beside one look at the pictures, PyTorch and ExecuTorch's training API.

    Head-only training with the body run in every epoch, with cached features and on a joint graph, and training of
    everything, in turns on the same pictures. Take the figures without other work on the machine.
    """
    for module, extra in (("torch", "train"), ("pydantic", "train"), ("onnx", "export"), ("matplotlib", "bench")):
        require(module, extra)
    from fbkit.device_runtime.chatter import without_chatter
    from fbkit.export.quiet import quiet_exporters

    with quiet_exporters(), without_chatter():  # it comments on its own import
        require("executorch.exir", "executorch")
    from fbkit.benchmarks.folder import folder_to_go_on
    from fbkit.benchmarks.personalize import measure, report

    plan = measure.Plan(tuple(size or (96, 224)), pictures, epochs, turns, threads or os.cpu_count() or 1, rounds)
    with folder_to_go_on(out, "fbkit bench personalize", measure.SCHEMA, measure.VERSION), Reporter() as reporter:
        found = measure.measure(plan, out, reporter)
        measure.write_results(found, plan, out / "personalize.json")
        text = report.to_markdown(found, plan)
        report.write_markdown(text, out / "personalize.md")
        report.draw(found, out / "personalize")
    stdout.print(text)
    stdout.print(f"table: {out / 'personalize.md'}, {out / 'personalize.json'}, plot: {out / 'personalize.png'}")
