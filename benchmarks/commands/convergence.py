"""``fbkit bench convergence``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, stdout
from fbkit.errors import require


def convergence(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders, told apart by their names.")],
    clients: Annotated[Path, typer.Option(help="Folder CLIENT/train/CLASS/PICTURE and CLIENT/test/CLASS/PICTURE.")],
    out: Annotated[Path, typer.Option(help="Folder to make for curves and plots.")],
    epochs: Annotated[int, typer.Option(min=1, max=100_000, help="Passes over the pictures.")] = 20,
    lr: Annotated[float, typer.Option(min=1e-9, max=1e3, help="Learning rate.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of pictures.")] = 0,
) -> None:
    """Measure how fast personalization converges: accuracy and loss against epochs and seconds."""
    require("matplotlib", "bench")
    from rich.table import Column, Table

    from fbkit.benchmarks.convergence import run_convergence
    from fbkit.device_runtime.solvers.sgd import Schedule

    with Reporter() as reporter:
        result = run_convergence(bundles, clients, out, Schedule(epochs=epochs, lr=lr, seed=seed), reporter)
    table = Table(
        Column("bundle", no_wrap=True), "as shipped", "after 1 epoch", f"after {epochs}", "features ready", "all done"
    )
    for name, bundle in result["bundles"].items():
        accuracy, seconds = bundle["test_accuracy"], bundle["seconds"]
        table.add_row(
            name,
            *(f"{value:.1f}%" for value in (accuracy[0], accuracy[1], accuracy[-1])),
            f"{1000 * bundle['seconds_features']:.0f} ms",
            f"{1000 * seconds[-1]:.0f} ms",
        )
    stdout.print(table, soft_wrap=False)
    stdout.print(f"curves: {out / 'curves.csv'}, plot: {out / 'convergence.svg'}")
