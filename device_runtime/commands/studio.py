"""``fbkit studio``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import stdout
from fbkit.device_runtime.commands.options import BundleFolder, SignedBy, Threads
from fbkit.errors import require


def studio(
    bundle: BundleFolder,
    profile: Annotated[Path, typer.Option(help="Profile folder that keeps the result; made if there is none.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 for any that is free.")] = 0,
    threads: Threads = None,
    signed_by: SignedBy = None,
) -> None:
    """A page in your browser: show it pictures, personalize, watch it learn, try it, go back."""
    for module in ("starlette", "uvicorn"):
        require(module, "studio")
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.studio.server import serve

    def say(address: str) -> None:
        stdout.print(f"open {address}")
        stdout.print("only this machine can, and only with this address; Ctrl-C ends it")
        stdout.file.flush()

    serve(Bundle.open(bundle, threads, signed_by), profile, port, say)
