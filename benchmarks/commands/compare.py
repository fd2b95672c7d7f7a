"""``fbkit bench compare``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fbkit.console import show, stdout
from fbkit.device_runtime.commands.options import AsJson
from fbkit.errors import UserError

if TYPE_CHECKING:
    from fbkit.benchmarks.comparing import Change

REGRESSED = 1  # exit code


def compare(
    before: Annotated[Path, typer.Argument(help="A result of bench convergence or bench device.")],
    after: Annotated[Path, typer.Argument(help="Another of the same.")],
    points: Annotated[float, typer.Option(min=0, max=100, help="Fewer points of accuracy are no regression.")] = 0.5,
    percent: Annotated[float, typer.Option(min=0, max=1000, help="Less time or memory more is no regression.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Tell what moved between two results beyond noise; exit code 1 where something became worse."""
    from fbkit.benchmarks.comparing import compare as compare_results
    from fbkit.benchmarks.report.reading import read_result

    old, new = read_result(before), read_result(after)
    try:
        changes = compare_results(old, new, points, percent)
    except UserError as error:
        raise UserError(f"{before}, {after}: {error}") from error
    regressed = [change for change in changes if change.regressed]
    found = {
        "changes": [
            {**asdict(change), "change": change.change, "moved": change.moved, "regressed": change.regressed}
            for change in changes
        ],
        "regressed": len(regressed),
    }
    show(found, as_json, lambda: _print(changes))
    if regressed:
        raise typer.Exit(REGRESSED)


def _print(changes: list[Change]) -> None:
    from rich.table import Table

    moved = [change for change in changes if change.moved]
    table = Table("what", "before", "after", "change", "interval", "pairs", "")
    for change in moved:
        unit, sign = ("points", "") if change.unit == "%" else ("%", "%")
        verdict = "REGRESSED" if change.regressed else "worse, within the threshold" if change.worse else "better"
        table.add_row(
            change.what,
            *(f"{value:,.2f} {change.unit}" for value in (change.before, change.after)),
            f"{change.change:+.1f} {unit}",
            f"{change.low:+.1f}{sign} to {change.high:+.1f}{sign}",
            str(change.pairs),
            verdict,
        )
    if moved:
        stdout.print(table, soft_wrap=False)
    regressed = sum(change.regressed for change in changes)
    stdout.print(
        f"{len(changes)} quantities in both: {len(changes) - len(moved)} did not move beyond noise, "
        f"{len(moved)} did, {regressed} regressed"
    )
