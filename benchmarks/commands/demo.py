"""``fbkit demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fbkit.console import Reporter, say_next, stdout
from fbkit.errors import UserError, require

if TYPE_CHECKING:
    from fbkit.benchmarks.demo import DemoResult


def demo(
    out: Annotated[Path | None, typer.Option(help="Folder to make; needed without --device.")] = None,
    device: Annotated[
        bool,
        typer.Option("--device", help="Only what a device does, with a bundle that fbkit carries; needs no torch."),
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe; repeatable.")
    ] = None,
) -> None:
    """Show the whole story on real pictures: train, export, personalize, report."""
    if device:
        if settings:
            raise UserError("--set changes the training recipe; --device trains nothing")
        from fbkit.device_runtime.demo import run_device_demo

        run_device_demo(out)
        return
    if out is None:
        raise UserError("--out DIR is missing: the folder for runs, bundles and the report")
    for module, extra in (("torch", "train"), ("pydantic", "train"), ("executorch", "executorch"), ("jinja2", "bench")):
        require(module, extra)
    require("matplotlib", "bench")
    from fbkit.benchmarks.demo import run_demo

    with Reporter() as reporter:
        result = run_demo(out, tuple(settings or ()), reporter)
    _print(result)


def _print(result: DemoResult) -> None:
    from rich.table import Column, Table

    from fbkit.benchmarks.report import PAPER_EPOCHS, bundle_row

    epochs = result.convergence["schedule"]["epochs"]
    table = Table(
        Column("bundle", no_wrap=True),
        "as shipped",
        f"{PAPER_EPOCHS} epochs",
        f"{epochs} epochs",
        "gain",
        "worst client",
        "done in",
    )
    for name, bundle in result.convergence["bundles"].items():
        row = bundle_row(name, bundle)
        table.add_row(
            name,
            f"{row['initial']:.1f}%",
            f"{row['paper']:.1f}%",
            f"{row['last']:.1f}%",
            f"{row['gain']:+.1f}",
            f"{row['worst']:.1f}%",
            f"{row['milliseconds']:.0f} ms",
        )
    out = result.out
    client = sorted((out / "clients").iterdir())[0]
    stdout.print(f"Held-out clients, head fine-tuning on the device ({len(result.convergence['clients'])} clients):")
    stdout.print(table, soft_wrap=False)
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result.seconds.items())
    stdout.print(f"{sum(result.seconds.values()):.0f} s in all: {stages}")
    for what, path in (
        ("report", result.report),
        ("runs", out / "runs"),
        ("bundles", out / "bundles"),
        ("pictures", out / "clients"),
        ("curves", out / "convergence" / "curves.csv"),
    ):
        stdout.print(f"{what}: {path}")
    bundle = out / "bundles" / "fedbabu-onnx"
    say_next("personalize", bundle, client / "train", "--profile", "my-profile")
    say_next("studio", bundle, "--profile", "my-profile")
