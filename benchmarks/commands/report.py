"""``fbkit bench report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import stdout
from fbkit.errors import require


def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="Results of bench convergence and bench device, of any number of machines."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to make.")],
) -> None:
    """Make one page of results, with plots, tables and CSV; it needs no network and fits on a phone."""
    for module in ("matplotlib", "jinja2"):
        require(module, "bench")
    from fbkit.benchmarks.report.reading import read_results
    from fbkit.benchmarks.report.writing import write_report
    from fbkit.files import refuse_existing

    refuse_existing(out)
    page = write_report(read_results(results), out)
    stdout.print(f"report: {page}")
    stdout.print(f"for a README: {out / 'report.md'}")
