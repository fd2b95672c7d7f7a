"""``fbkit check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import show, stdout
from fbkit.device_runtime.commands.options import SignedBy


def check(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    signed_by: SignedBy = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify a bundle's files and run its self-test on this machine."""
    from fbkit.device_runtime.checking import check_bundle

    report = check_bundle(bundle, signed_by)

    def for_people() -> None:
        stdout.print(f"{bundle}: good")
        stdout.print(
            f"{report.files} files are as the manifest says; the body runs here on {report.runtime}", soft_wrap=True
        )
        for name, value in report.errors.items():
            stdout.print(f"  {name.replace('_', ' ')}: {value:.1e}")

    show({"ok": True, "files": report.files, "runtime": report.runtime, "errors": report.errors}, as_json, for_people)
