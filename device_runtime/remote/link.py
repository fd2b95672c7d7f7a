"""What a connection to a device can do. Commands are lists of words: what reaches the device's shell is quoted."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from fbkit.errors import UserError


@dataclass(frozen=True)
class Ended:
    """How a command on the device ended."""

    code: int
    out: bytes
    err: str


class Link(Protocol):
    """A connection; use it in a ``with`` block.

    Every call raises ``DeviceGone`` where the device cannot be reached, or no longer.
    """

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def folder(self) -> str | None:
        """Where fbkit keeps its files on the device; None for the default in the user's home."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, command: list[str], given: bytes = b"", speaks: bool = False) -> Ended:
        """Run a command there, with ``given`` on its stdin; where it speaks, its stderr goes to this process's own."""

    def stream(self, command: list[str]) -> int:
        """Run a command there, its output and errors to this process's own; return its exit code.

        Where these are a terminal it gets one there: for bars, and so that Ctrl-C reaches it.
        """

    def send(self, path: Path, place: str, held: int) -> int:
        """Copy a file to a place there, of which ``held`` bytes are there already; return how many bytes went."""


class DeviceGone(UserError):
    """The device cannot be reached."""


def quoted(command: list[str]) -> str:
    """For a POSIX shell."""
    return shlex.join(command)


def script(link: Link, lines: list[str], what: str) -> str:
    """Run a shell script there, through stdin, so that it may be long; return its stdout.

    Raises:
        UserError: it fails; ``what`` says what was to be done.
    """
    ended = link.run(["sh", "-eu", "-s"], ("\n".join(lines) + "\n").encode())
    if ended.code:
        reason = last_line(ended.err) or f"exit code {ended.code}"
        raise UserError(f"{link.name}: cannot {what} ({reason})")
    return ended.out.decode(errors="replace")


def on_terminal() -> bool:
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
