"""The option by which a device asks for a signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SignedBy = Annotated[
    Path | None,
    typer.Option(help="Public key that the bundle must be signed by.", envvar="FBKIT_SIGNED_BY", show_envvar=True),
]
