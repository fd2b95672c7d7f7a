"""``fbkit bench convergence``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fbkit.console import Reporter, called_as, stdout
from fbkit.errors import UserError, require

SHARE = 1  # the middle one of groups.SHARES: 95%
WIDTH = 120  # of the table in a file or a pipe, where nothing says how wide it may be

if TYPE_CHECKING:
    from fbkit.benchmarks.convergence.result import ConvergenceResult


def convergence(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Run and bundle folders; none to train bodies for the comparison.", show_default=False),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for results and report; one that is there is gone on with.")],
    clients: Annotated[
        Path | None,
        typer.Option(help="Folder CLIENT/{train,test}/CLASS/PICTURE. Default: those that the runs held out."),
    ] = None,
    algorithm: Annotated[
        list[str] | None, typer.Option(help="To train; repeatable.", show_default="fedavg, fedbabu")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A value of their recipe; repeatable.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=1000, help="Runs of each.", show_default="3")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="To export runs to; repeatable.", show_default="onnx, executorch")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="fp32 or int8; repeatable.", show_default="fp32")] = None,
    solver: Annotated[
        list[str] | None,
        typer.Option(help="sgd, sgd:RATE, exact or nearest; repeatable.", show_default="sgd, exact"),
    ] = None,
    pictures: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Pictures of a class; 0 for all; repeatable.", show_default="1, 5, 20"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Of sgd.", show_default="what a bundle recommends")
    ] = None,
    native: Annotated[
        Path | None, typer.Option(help="Folder that make native made: it runs the .pte bundles, too.")
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="FedPer and FedRep, int8, sgd at three rates, nearest template, 1 to 50 pictures."),
    ] = False,
) -> None:
    """Measure how fast personalization converges, and write a report; takes minutes, and goes on where it stopped."""
    for module, extra in (("matplotlib", "bench"), ("jinja2", "bench")):
        require(module, extra)
    _refuse_without_use(sources, algorithm, settings, seeds, target, precision)
    if not sources or any((source / "run.json").exists() for source in sources):
        for module, extra in (("torch", "train"), ("pydantic", "train"), ("onnx", "export")):
            require(module, extra)
    from fbkit.benchmarks.convergence.comparison import run_convergence
    from fbkit.benchmarks.convergence.plan import EVERYTHING, Plan, chosen
    from fbkit.benchmarks.report.writing import write_report

    plan = chosen(
        EVERYTHING if everything else Plan(),
        algorithms=algorithm,
        settings=settings,
        seeds=seeds,
        targets=target,
        precisions=precision,
        solvers=solver,
        per_class=pictures,
        epochs=epochs,
        native=native,
    )
    with Reporter() as reporter:
        result = run_convergence(sources or [], clients, plan, out, called_as(), reporter)
    page = write_report([(out / "convergence.json", result)], out / "report", make_room=True)
    _print(result)
    stdout.print(f"report: {page}")
    stdout.print(f"results: {out / 'convergence.json'}, {out / 'curves.csv'}")


def _refuse_without_use(
    sources: list[Path] | None,
    algorithm: list[str] | None,
    settings: list[str] | None,
    seeds: int | None,
    target: list[str] | None,
    precision: list[str] | None,
) -> None:
    """Raise UserError for an option that would change nothing."""
    for option, given in (("--algorithm", algorithm), ("--set", settings), ("--seeds", seeds)):
        if sources and given:
            raise UserError(
                f"{option} is for bodies that are trained for the comparison; leave it or {sources[0]} away"
            )
    all_bundles = sources and not any((source / "run.json").exists() for source in sources)
    for option, exports in (("--target", target), ("--precision", precision)):
        if all_bundles and exports:
            raise UserError(f"{option} is for runs, which are exported; a bundle has its own")


def _print(result: ConvergenceResult) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    from fbkit.benchmarks.convergence.groups import group, summarize

    table = Table(
        *(Column(name, no_wrap=True) for name in ("body", "target", "solver")),
        *("pictures", "shipped", "after", "worst 10%", "epochs to 95%", "ms"),
    )
    for each in group(result):
        found = summarize(each)
        table.add_row(
            each.source,
            each.target if each.precision == "fp32" else f"{each.target} {each.precision}",
            each.solver,
            each.pictures_in_words,
            *(f"{value:.1f}%" for value in (found.shipped, found.final, found.worst)),
            f"{found.reached[SHARE].epochs:g}",
            "" if result.machine.emulated else f"{1000 * found.seconds:.0f}",
        )
    if stdout.is_terminal:
        stdout.print(table, soft_wrap=False)
    else:
        Console(highlight=False, markup=False, width=WIDTH).print(table)
