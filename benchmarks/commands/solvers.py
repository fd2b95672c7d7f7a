"""``fbkit bench solvers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, stdout
from fbkit.errors import require


def solvers(
    out: Annotated[Path, typer.Option(help="Folder for runs, table and plot; what is there is not trained again.")],
    algorithm: Annotated[
        list[str] | None, typer.Option(help="Of the runs; repeatable.", show_default="fedbabu, fedavg")
    ] = None,
    shards: Annotated[list[int] | None, typer.Option(help="Shards a client; repeatable.", show_default="2, 5")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs of each kind.")] = 3,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A value of the recipe: section.key=value.")
    ] = None,
) -> None:
    """Compare ways of fitting the head on clients that took no part in training."""
    require("torch", "train")
    require("onnx", "export")
    require("matplotlib", "bench")
    from fbkit.benchmarks.solvers import report
    from fbkit.benchmarks.solvers.measure import measure

    out.mkdir(parents=True, exist_ok=True)
    with Reporter() as reporter:
        measured = measure(
            tuple(algorithm or ("fedbabu", "fedavg")),
            tuple(shards or (2, 5)),
            seeds,
            tuple(settings or ()),
            out,
            reporter,
        )
    report.write_csv(measured, out / "solvers.csv")
    report.draw(measured, out / "solvers")
    text = report.to_markdown(measured)
    (out / "solvers.md").write_text(text)
    stdout.print(text)
    stdout.print(f"table: {out / 'solvers.csv'}, plot: {out / 'solvers.png'}")
