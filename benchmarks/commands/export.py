"""``fbkit bench export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, stdout
from fbkit.errors import UserError, require


def export_matrix(
    out: Annotated[
        Path, typer.Option(help="Folder for weights, bundles and report; one that is there is gone on with.")
    ],
    models: Annotated[str | None, typer.Option(help="Names with commas; default: every model.")] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Rounds of each training; default: what the model needs.")
    ] = None,
    width: Annotated[int, typer.Option(min=1, max=1024, help="Channels of the 4-conv net.")] = 64,
) -> None:
    """Measure what export makes of every model: bytes, accuracy, errors and time, for every target and precision.

    Without other work on the machine times are better: remove OUT/times, and the same command takes them again.
    """
    for module, extra in (("torch", "train"), ("pydantic", "train"), ("onnx", "export"), ("matplotlib", "bench")):
        require(module, extra)
    from fbkit.export.quiet import quiet_exporters

    with quiet_exporters():  # it comments on its own import
        require("executorch.exir", "executorch")
    from fbkit.benchmarks.export_matrix import matrix, report, results
    from fbkit.benchmarks.folder import folder_to_go_on

    chosen = matrix.choose_models(models)
    with folder_to_go_on(out, "fbkit bench export", results.SCHEMA, results.VERSION), Reporter() as reporter:
        found, failed = matrix.measure(chosen, width, rounds, matrix.Place(out), reporter)
        results.write_results(found, failed, out / "export.json")
        text = report.to_markdown(found, failed)
        report.write_markdown(text, out / "export.md")
        report.draw(found, out / "export")
    stdout.print(text)
    stdout.print(f"table: {out / 'export.md'}, {out / 'export.json'}, plot: {out / 'export.png'}")
    if failed:
        raise UserError(f"{len(failed)} of {len(found) + len(failed)} exports failed, as told above")
