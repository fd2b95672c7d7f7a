"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleFolder = Annotated[Path, typer.Argument(help="Bundle folder.", show_default=False)]
ProfileFolder = Annotated[Path, typer.Argument(help="Profile folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="For an ONNX body.", show_default="onnxruntime's choice")
]
SignedBy = Annotated[
    Path | None,
    typer.Option(help="Public key that the bundle must be signed by.", envvar="FBKIT_SIGNED_BY", show_envvar=True),
]
To = Annotated[
    str,
    typer.Option(help="The device: ssh://USER@HOST:PORT/FOLDER, of which HOST is enough, or adb:SERIAL, or adb."),
]
