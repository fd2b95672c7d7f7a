"""``fbkit bench train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, stdout
from fbkit.errors import UserError, require
from fbkit.files import refuse_existing


def train_speed(
    out: Annotated[Path, typer.Option(help="Folder to make for workload, table and plot.")],
    rivals: Annotated[
        Path | None,
        typer.Option(help="Python that has Flower and pfl (make rivals); without it they are left out."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, max=10_000, help="Rounds of each training.")] = 40,
    warmup: Annotated[int, typer.Option(min=0, help="Rounds at the beginning that do not count.")] = 5,
    turns: Annotated[int, typer.Option(min=1, max=100, help="How often each contender trains.")] = 3,
    width: Annotated[int, typer.Option(min=1, max=1024, help="Channels of the 4-conv net.")] = 64,
) -> None:
    """Measure how fast training is, beside the bare loop and other simulators."""
    require("torch", "train")
    require("matplotlib", "bench")
    from rich.table import Table

    from fbkit.benchmarks.train_speed import compare, report

    if warmup >= rounds:
        raise UserError(f"--warmup {warmup}: of --rounds {rounds} none would be left to measure")
    if rivals and not rivals.is_file():
        raise UserError(f"--rivals {rivals}: no such Python; make rivals makes .venv-rivals/bin/python")
    refuse_existing(out)
    out.mkdir(parents=True, exist_ok=True)
    entrants = compare.contenders(rivals)
    with Reporter() as reporter:
        found = compare.compare(out, entrants, rounds, warmup, turns, width, reporter)
    how = (
        f"FedAvg on the embedded Fashion-MNIST pictures, 100 clients of 100 pictures, cohort 10, batch 50, 4-conv net "
        f"{width} wide, {rounds} rounds of which the first {warmup} do not count; {turns} turns, medians."
    )
    pictures = 1000
    report.write_csv(found, out / "speed.csv")
    report.write_markdown(found, pictures, how, out / "speed.md")
    report.draw(found, out / "speed")
    rows = report.table(found, pictures)
    shown = Table(*rows[0])
    for row in rows[1:]:
        shown.add_row(*row)
    stdout.print(shown, soft_wrap=False)
    for line in report.goals(found):
        stdout.print(line)
    stdout.print(f"table: {out / 'speed.md'}, {out / 'speed.csv'}, plot: {out / 'speed.png'}")
