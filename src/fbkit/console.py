"""What commands say to people and to programs: progress and messages on stderr, results on stdout."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

stdout = Console(highlight=False)


class Reporter:
    """Progress of long work on stderr: bars on a terminal, elsewhere a line a finished stage, nothing if quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def line(self, text: str) -> None:
        """Say something that stays on the screen."""
        self._console.print(text, soft_wrap=True, markup=False)

    @contextmanager
    def stage(self, description: str, total: int) -> Iterator[Callable[[str], None]]:
        """Open a bar of ``total`` steps; the yielded function counts one step and shows a note."""
        task = self._bars.add_task(description, total=total, note="")
        started = time.monotonic()

        def advance(note: str = "") -> None:
            self._bars.update(task, advance=1, note=note)

        yield advance
        seconds = time.monotonic() - started
        if not self._console.is_terminal and seconds >= 1:
            self.line(f"{description}: done in {seconds:.1f} s")


def program() -> str:
    """How the user can call fbkit again: by its name where the shell finds this one, else by its path."""
    called = Path(sys.argv[0])
    found = shutil.which("fbkit")
    if called.name != "fbkit" or (found and Path(found).resolve() == called.resolve()):
        return "fbkit"
    return str(called)


def show(result: dict[str, Any], as_json: bool, for_people: Callable[[], None]) -> None:
    """Print ``result`` as one JSON object on stdout, or let ``for_people`` print it."""
    if as_json:
        sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    else:
        for_people()
