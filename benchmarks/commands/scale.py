"""``fbkit bench scale``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, stdout
from fbkit.errors import require
from fbkit.files import refuse_existing


def scale(
    out: Annotated[Path, typer.Option(help="Folder to make for table and plot.")],
    rounds: Annotated[int, typer.Option(min=1, max=10_000, help="Rounds of each training.")] = 20,
    turns: Annotated[int, typer.Option(min=1, max=100, help="How often each size is trained.")] = 3,
    largest: Annotated[int, typer.Option(min=100, max=10_000_000, help="Leave out sizes above this.")] = 1_000_000,
) -> None:
    """Measure memory and the time of a round from a hundred clients to a million."""
    require("torch", "train")
    require("matplotlib", "bench")
    from rich.table import Table

    from fbkit.benchmarks.scale import compare

    refuse_existing(out)
    out.mkdir(parents=True, exist_ok=True)
    sizes = [size for size in compare.SIZES if size <= largest]
    with Reporter() as reporter:
        costs = compare.measure(sizes, rounds, turns, out / "runs", reporter)
    compare.write_csv(costs, out / "scale.csv")
    compare.draw(costs, out / "scale")
    table = Table("clients", "most memory", "of it, which pictures are whose", "the rest", "a round", "set up")
    for cost in costs:
        table.add_row(
            f"{cost.clients:,}",
            *(f"{value / 2**20:.0f} MiB" for value in (cost.peak_bytes, cost.index_bytes, cost.other_bytes)),
            f"{1000 * cost.round_seconds:.0f} ms",
            f"{cost.setup_seconds:.1f} s",
        )
    stdout.print(table, soft_wrap=False)
    stdout.print(f"table: {out / 'scale.csv'}, plot: {out / 'scale.png'}")
