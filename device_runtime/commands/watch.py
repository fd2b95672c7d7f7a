"""``fbkit watch``."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fbkit.console import stdout
from fbkit.device_runtime.commands.options import BundleFolder, SignedBy, Threads
from fbkit.errors import Interrupted, printable

if TYPE_CHECKING:
    from fbkit.device_runtime.outcomes import FitResult

_NICENESS = 10  # whoever uses the device comes first


def watch(
    bundle: BundleFolder,
    folder: Annotated[Path, typer.Argument(help="Folder with one folder of pictures for each class.")],
    profile: Annotated[Path, typer.Option(help="Profile folder that keeps the result; made if there is none.")],
    settle: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds for which a file must stay as it is before it is read.")
    ] = 2.0,
    add_classes: Annotated[bool, typer.Option(help="Take folders of other names for new classes.")] = False,
    threads: Threads = None,
    signed_by: SignedBy = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Learn from pictures as they appear in a folder, until stopped."""
    from fbkit.device_runtime.bundle import Bundle
    from fbkit.device_runtime.watching import Watch

    def tell(event: str, values: dict[str, Any], words: str) -> None:
        stdout.print(json.dumps({"event": event, **values}, allow_nan=False) if as_json else words)
        stdout.file.flush()

    def learned(result: FitResult, new: int) -> None:
        head = f"personal head {result.head}" if result.head else "the shipped head"
        words = f"{new} new pictures, {sum(result.pictures.values())} in all: {result.verdict.reason}; {head} is in use"
        tell("learned", {"new": new, **asdict(result)}, words)

    def said(path: Path, what: str) -> None:
        where = printable(str(path))
        tell("said", {"path": where, "what": what}, f"{where}: {what}")

    os.nice(_NICENESS)
    watching = Watch(Bundle.open(bundle, threads, signed_by), folder, profile, settle, add_classes, learned, said)
    ended_by = 0

    def end(number: int, _frame: object) -> None:
        nonlocal ended_by
        ended_by = number
        watching.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    tell("watching", {"path": str(folder)}, f"watching {folder}; Ctrl-C ends it")
    watching.run()
    if ended_by == signal.SIGINT:
        raise Interrupted(f"watched no longer; what was learned is in {profile}")
