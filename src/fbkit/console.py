"""What commands say to people and to programs: progress and messages on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import shlex
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

from fbkit.errors import printable

# Paths and class names are people's own words: shown as they are, never as markup, and not broken over lines.
stdout = Console(highlight=False, markup=False, soft_wrap=True)


class Reporter:
    """Progress of long work on stderr: bars on a terminal, elsewhere lines as things are done, nothing if quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, quiet=quiet)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            speed_estimate_period=3600,  # seconds; by default a step of half a minute leaves the time left unknown
            disable=quiet or not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @property
    def has_bars(self) -> bool:
        return self._console.is_terminal

    def line(self, text: str) -> None:
        """Say something that stays on the screen, in one line."""
        if not self._console.quiet:  # it would lay the line out all the same
            self._console.print(printable(text), soft_wrap=True)

    @contextmanager
    def stage(self, description: str, total: int, done: int = 0) -> Iterator[Callable[[str], None]]:
        """Open a bar of ``total`` steps, ``done`` before; the yielded function counts one step and shows a note."""
        if self._console.quiet:  # a device predicts in a millisecond, and bars that nobody sees take a tenth of it
            yield _say_nothing
            return
        task = self._bars.add_task(description, total=total, completed=done, note="")
        started = time.monotonic()

        def advance(note: str = "") -> None:
            self._bars.update(task, advance=1, note=note)

        yield advance
        seconds = time.monotonic() - started
        if not self._console.is_terminal and seconds >= 1:
            self.line(f"{description}: done in {seconds:.1f} s")


def _say_nothing(note: str = "") -> None:
    """A stage's function where nobody is told."""


def show(result: dict[str, Any], as_json: bool, for_people: Callable[[], None]) -> None:
    """Print ``result`` as one JSON object on stdout, or let ``for_people`` print it."""
    if as_json:
        sys.stdout.write(json.dumps(result, allow_nan=False) + "\n")
    else:
        for_people()


def say_next(*arguments: object) -> None:
    """Name the command to try next, as the user can type it: fbkit by its path where the shell does not find it.

    Where another machine's fbkit runs this one, that says what is next there.
    """
    if os.environ.get("FBKIT_CALLED_FROM_AFAR"):
        return
    called = Path(sys.argv[0])
    found = shutil.which("fbkit")
    known = called.name != "fbkit" or (found and Path(found).resolve() == called.resolve())
    stdout.print("next: " + shlex.join(["fbkit" if known else str(called), *map(str, arguments)]))


def called_as() -> str:
    """The command as the user typed it, for a report that says what makes it again."""
    return shlex.join(["fbkit", *(argument for argument in sys.argv[1:] if argument != "--debug")])


def under_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ or {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def speaks_for_all() -> bool:
    """Whether this process is the one that talks to the user; torchrun's other workers keep silent."""
    return not under_torchrun() or os.environ.get("RANK", "0") == "0"
