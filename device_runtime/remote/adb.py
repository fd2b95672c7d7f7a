"""A device behind Android's own adb."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from fbkit.device_runtime.remote.link import DeviceGone, Ended, last_line, on_terminal, quoted
from fbkit.device_runtime.remote.target import AdbTarget
from fbkit.errors import UserError

_FOLDER = "/data/local/tmp/fbkit"  # from where Android's shell may run programs


class AdbLink:
    """See ``Link``."""

    def __init__(self, target: AdbTarget) -> None:
        self.name, self.folder = str(target), _FOLDER
        self._adb = ["adb", *(["-s", target.serial] if target.serial else [])]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """adb's server, which keeps the connection, is the user's own."""

    def run(self, command: list[str], given: bytes = b"", speaks: bool = False) -> Ended:
        err_to = None if speaks else subprocess.PIPE
        ended = self._start(["shell", "-T", quoted(command)], input=given, stdout=subprocess.PIPE, stderr=err_to)
        err = (ended.stderr or b"").decode(errors="replace")
        if ended.returncode:
            self._check(err)
        return Ended(ended.returncode, ended.stdout, err)

    def stream(self, command: list[str]) -> int:
        if on_terminal():
            code = self._start(["shell", "-t", quoted(command)]).returncode
        else:
            code = self._start(["shell", "-T", quoted(command)], stdin=subprocess.DEVNULL).returncode
        if code:
            self._check("")
        return code

    def send(self, path: Path, place: str, held: int) -> int:  # noqa: ARG002  adb begins each file anew
        ended = self._start(["push", str(path.absolute()), place], capture_output=True)
        err = (ended.stderr or ended.stdout).decode(errors="replace")
        if ended.returncode:
            self._check(err)
            raise UserError(f"{self.name}: {place}: cannot be written there ({last_line(err)})")
        return path.stat().st_size

    def _check(self, err: str) -> None:
        """adb's exit code does not say whether it or the command failed."""
        state = self._start(["get-state"], capture_output=True)
        if state.stdout.strip() != b"device":
            reason = last_line(state.stderr.decode(errors="replace")) or last_line(err)
            raise DeviceGone(f"{self.name}: cannot be reached, or no longer ({reason})")

    def _start(self, words: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run([*self._adb, *words], check=False, **options)  # type: ignore[call-overload,no-any-return]
        except FileNotFoundError as error:
            raise UserError("adb: is not installed here; install Android's platform-tools") from error
