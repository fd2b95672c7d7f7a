"""``fbkit evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import Reporter, show, stdout
from fbkit.device_runtime.commands.options import SignedBy, Threads


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    data: Annotated[Path, typer.Argument(help="Folder with one folder of pictures for each class.")],
    profile: Annotated[
        Path | None, typer.Option(help="Profile folder, to measure its head beside the shipped one.")
    ] = None,
    threads: Threads = None,
    signed_by: SignedBy = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure accuracy and loss on labelled pictures."""
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.personalizer import Personalizer

    with Reporter(quiet=as_json) as reporter:
        result = Personalizer(Bundle.open(bundle, threads, signed_by), profile, reporter).evaluate(data)

    def for_people() -> None:
        stdout.print(f"{result.pictures} pictures")
        stdout.print(f"shipped head:  {result.shipped_accuracy:5.1f}% correct, loss {result.shipped_loss:.3f}")
        if result.personal_accuracy is not None:
            stdout.print(f"personal head: {result.personal_accuracy:5.1f}% correct, loss {result.personal_loss:.3f}")

    show(asdict(result), as_json, for_people)
