"""``fbkit unpack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import say_next, stdout
from fbkit.device_runtime.commands.options import SignedBy


def unpack(
    file: Annotated[Path, typer.Argument(help="What fbkit pack made.")],
    out: Annotated[Path, typer.Option(help="Bundle folder to make; it appears whole or not at all.")],
    signed_by: SignedBy = None,
) -> None:
    """Check a packed bundle, and make a bundle folder of it."""
    from fbkit.device_runtime.packing import unpack_bundle

    untried = unpack_bundle(file, out, signed_by)
    if untried:
        stdout.print(f"{out}: every file is as the manifest says, but not tried here: {untried}")
    else:
        stdout.print(f"{out}: good, every file is as the manifest says and the body runs here")
    say_next("check", out)
