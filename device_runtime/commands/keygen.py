"""``fbkit keygen``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import say_next, stdout


def keygen(key: Annotated[Path, typer.Argument(help="File to make; KEY.pub is made beside it.")]) -> None:
    """Make a pair of keys to sign bundles with."""
    from fbkit.device_runtime.signing import make_keys

    public = make_keys(key)
    stdout.print(f"{key}: the private key, which signs; keep it to yourself")
    stdout.print(f"{public}: the public key, by which devices know your bundles")
    say_next("sign", "BUNDLE", "--key", key)
