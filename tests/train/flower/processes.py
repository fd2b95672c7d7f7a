"""Flower's real programs on loopback, in an environment of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[3]
BIN = ROOT / ".venv-flower" / "bin"
APP = ROOT / "examples" / "flower"
HOW_TO_MAKE = (
    "no .venv-flower; make it with: python3 -m venv .venv-flower && "
    ".venv-flower/bin/pip install -c constraints-flower.txt -e '.[flower]' pytest"
)

_PATIENCE = 400  # seconds; a message takes up to ten of them, and most of that is starting a process


class FlowerPrograms:
    """A SuperLink, SuperNodes and `flwr run`, all with files below one folder; on leaving, all processes are killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._port = _free_port()

    def __enter__(self) -> Self:
        home = self._folder / "home"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "test"\n[superlink.test]\naddress = "127.0.0.1:{self._port}"\ninsecure = true\n'
        )
        quiet = "--disable-runtime-dependency-installation"
        self._start("superlink", "flower-superlink", "--insecure", quiet, "--port", str(self._port))
        deadline = time.monotonic() + 60
        while not _listens(self._port):
            assert time.monotonic() < deadline, self.log("superlink")
            time.sleep(0.2)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._processes:
            self.kill(name)

    def start_silo(self, name: str, pictures: Path, client: int) -> None:
        link = f"127.0.0.1:{self._port}"
        config = f'pictures="{pictures}" client={client}'
        port = str(_free_port())
        options = ("--insecure", "--superlink", link, "--port", port, "--node-config", config)
        self._start(name, "flower-supernode", *options)

    def kill(self, name: str) -> None:
        """The process and all that it started."""
        process = self._processes[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def interrupt(self, name: str) -> None:
        """What Ctrl-C in its terminal does."""
        os.killpg(self._processes[name].pid, signal.SIGINT)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def run(self, app: Path, config: Mapping[str, object]) -> str:
        """``flwr run --stream``, to its end; what it shows."""
        self.start_run(app, config)
        return self.finish_run()

    def start_run(self, app: Path, config: Mapping[str, object]) -> None:
        given = " ".join(f"{key}={value!r}" for key, value in config.items())
        self._start("run", "flwr", "run", str(app), "--stream", "--run-config", given)

    def wait_for(self, text: str) -> None:
        """Until the run shows it."""
        deadline = time.monotonic() + _PATIENCE
        while text not in self.log("run"):
            assert self._processes["run"].poll() is None, self.log("run")
            assert time.monotonic() < deadline, self.log("run")
            time.sleep(0.2)

    def finish_run(self) -> str:
        self._processes["run"].wait(timeout=_PATIENCE)
        return self.log("run")

    def _start(self, name: str, program: str, *arguments: str) -> None:
        environment = os.environ | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "FLWR_HOME": str(self._folder / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "XDG_CACHE_HOME": str(self._folder / "cache"),
        }
        with (self._folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [str(BIN / program), *arguments],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
