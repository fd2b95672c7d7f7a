"""``fbkit pack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import say_next, stdout


def pack(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    out: Annotated[Path, typer.Option(help="File to make.")],
) -> None:
    """Make one file of a bundle, for transport; the same bundle gives the same bytes."""
    from fbkit.device_runtime.packing import pack_bundle

    stdout.print(f"{out}: {pack_bundle(bundle, out):,} bytes")
    say_next("unpack", out, "--out", "FOLDER")
