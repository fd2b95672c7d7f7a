"""``fbkit sign``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fbkit.console import say_next, stdout


def sign(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    key: Annotated[Path, typer.Option(help="Private key, as fbkit keygen makes it.")],
) -> None:
    """Sign a bundle, for devices that ask for a signature."""
    from fbkit.device_runtime.signing import sign_bundle

    stdout.print(f"{sign_bundle(bundle, key)}: the signature")
    say_next("check", bundle, "--signed-by", f"{key}.pub")
