"""``fbkit bench native``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from fbkit.console import stdout
from fbkit.errors import UserError


def native_bench(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders of --target executorch.", show_default=False)],
    pictures: Annotated[Path, typer.Option(help="Folder class/picture to learn from.")],
    unseen: Annotated[Path, typer.Option(help="Folder class/picture to predict.")],
    native: Annotated[Path, typer.Option(help="Folder that make native made.")],
    out: Annotated[Path, typer.Option(help="Folder for table and figures; made if there is none.")],
    weigh: Annotated[
        list[Path] | None, typer.Option(help="More folders to weigh, such as make native-arm64's; repeatable.")
    ] = None,
    turns: Annotated[int, typer.Option(min=1, max=1000, help="How often each command is run.")] = 7,
) -> None:
    """Run the native runner beside Python: time, memory and agreement. Take the figures on a quiet machine."""
    from fbkit.benchmarks.native.beside import compare, folder_bytes
    from fbkit.benchmarks.native.report import write_results

    program = native / "fbkit-device"
    if not program.is_file():
        raise UserError(f"{program}: no such program; make it with: make native")
    for folder in (pictures, unseen):
        if not any(folder.glob("*/*")):
            raise UserError(f"{folder}: holds no folder with pictures")
    sizes = {folder.name: folder_bytes(folder) for folder in (native, *(weigh or []))}
    with TemporaryDirectory() as scratch:
        found = [compare(bundle, pictures, unseen, program, turns, Path(scratch)) for bundle in bundles]
    out.mkdir(parents=True, exist_ok=True)
    stdout.print(write_results(found, sizes, turns, out))
