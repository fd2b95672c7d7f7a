"""``fbkit bench paper``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fbkit.console import Reporter, stdout
from fbkit.errors import require

if TYPE_CHECKING:
    from fbkit.benchmarks.paper.questions import Table

WIDTH = 140  # of a table in a file or a pipe, where nothing says how wide it may be


def paper(
    out: Annotated[Path, typer.Option(help="Folder for runs and reports; one that is there is gone on with.")],
    rq: Annotated[
        list[int] | None, typer.Option(help="A question of the paper, 1 to 5; repeatable. Default: all five.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="small: the embedded Fashion-MNIST; paper: CIFAR-100 and MobileNet.")
    ] = "small",
    data_root: Annotated[Path | None, typer.Option(help="Folder that holds CIFAR-100, for --scale paper.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one a core (with GPUs: one a GPU, run after run).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the recipes and say what there is to do.")] = False,
) -> None:
    """Ask the five questions of the FedBABU paper: run what they need, and report tables and plots."""
    for module, extra in (("torch", "train"), ("pydantic", "train"), ("tensorboard", "train"), ("matplotlib", "bench")):
        require(module, extra)
    from fbkit.benchmarks.paper.asking import ask, find_scale
    from fbkit.benchmarks.paper.questions import QUESTIONS

    chosen = find_scale(scale, data_root)
    with Reporter() as reporter:
        asked = ask(
            rq or list(QUESTIONS),
            chosen,
            out,
            workers,
            dry_run=dry_run,
            reporter=reporter,
            show_plan=lambda plan: stdout.print(plan.table(), soft_wrap=False),
        )
    for number, answer in asked.answers.items():
        stdout.print(f"\nRQ{number}. {QUESTIONS[number].text}")
        for table in answer.tables:
            _print(table)
        stdout.print(answer.findings.replace("±", "+-"), soft_wrap=False)
        stdout.print(f"report: {asked.reports[number]}")
    stdout.print(f"all reports: {asked.index}" if asked.index else f"recipes: {out / 'recipes'}")


def _print(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as Rich

    shown = Rich(*table.columns, title=table.title, title_justify="left")
    for row in table.rows:
        shown.add_row(*(cell.replace("±", "+-") for cell in row))
    if stdout.is_terminal:
        stdout.print(shown, soft_wrap=False)
    else:
        Console(highlight=False, markup=False, width=WIDTH).print(shown)
