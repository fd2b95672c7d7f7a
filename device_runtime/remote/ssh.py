"""A device behind OpenSSH's own client, with the user's configuration and keys."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from fbkit.device_runtime.remote.link import DeviceGone, Ended, last_line, on_terminal, quoted
from fbkit.device_runtime.remote.target import SshTarget
from fbkit.errors import UserError

_LOST = 255  # ssh's own exit code
_OPTIONS = {
    "ConnectTimeout": "20",
    "ServerAliveInterval": "10",  # a device that vanishes is noticed in half a minute
    "ServerAliveCountMax": "3",
    "ControlMaster": "auto",  # one connection, and one question for a password, for all that is done
    "ControlPersist": "60",
}


class SshLink:
    """See ``Link``."""

    def __init__(self, target: SshTarget) -> None:
        self.name, self.folder = str(target), target.folder
        self._control = TemporaryDirectory(prefix="fbkit-")  # short: a socket's path is
        options = {**_OPTIONS, "ControlPath": f"{self._control.name}/%C"}
        self._ssh = ["ssh", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
        if target.port:
            self._ssh += ["-p", str(target.port)]
        if target.user:
            self._ssh += ["-l", target.user]
        self._host = target.host

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subprocess.run([*self._ssh, "-O", "exit", "--", self._host], capture_output=True, check=False)
        self._control.cleanup()

    def run(self, command: list[str], given: bytes = b"", speaks: bool = False) -> Ended:
        err_to = None if speaks else subprocess.PIPE
        ended = self._start(command, input=given, stdout=subprocess.PIPE, stderr=err_to)
        err = (ended.stderr or b"").decode(errors="replace")
        if ended.returncode == _LOST:
            raise self._gone(err)
        return Ended(ended.returncode, ended.stdout, err)

    def stream(self, command: list[str]) -> int:
        if on_terminal():
            code = self._start(command, terminal=True).returncode
        else:
            code = self._start(command, stdin=subprocess.DEVNULL).returncode
        if code == _LOST:
            raise self._gone("")
        return code

    def send(self, path: Path, place: str, held: int) -> int:
        write = ["sh", "-c", 'if [ "$2" = 0 ]; then exec cat >"$1"; else exec cat >>"$1"; fi', "sh", place, str(held)]
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(held)
            ended = self._start(write, stdin=file, capture_output=True)
        err = ended.stderr.decode(errors="replace")
        if ended.returncode == _LOST:
            raise self._gone(err)
        if ended.returncode:
            raise UserError(f"{self.name}: {place}: cannot be written there ({last_line(err)})")
        return size - held

    def _start(
        self, command: list[str], terminal: bool = False, **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        how = ["-t", "-o", "LogLevel=ERROR"] if terminal else ["-T"]  # nothing of connections that were shared
        words = [*self._ssh, *how, "--", self._host, quoted(command)]
        try:
            return subprocess.run(words, check=False, **options)  # type: ignore[call-overload,no-any-return]
        except FileNotFoundError as error:
            raise UserError("ssh: is not installed here; install OpenSSH's client") from error

    def _gone(self, err: str) -> DeviceGone:
        return DeviceGone(
            f"{self.name}: cannot be reached, or no longer ({last_line(err) or 'the connection was lost'})"
        )
