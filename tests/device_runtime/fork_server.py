"""Commands without their start: a process that has imported what they need, and forks for each.

Importing takes ten times as long as a command. A fork runs the real command line, and is killed for real.

Run as ``python fork_server.py``; a JSON object a line comes in, and the exit status goes out.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


class ForkServer:
    """The running server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *arguments: object, kill_after: float | None = None, file_bytes: int | None = None) -> int:
        """Run a command and return its exit status; negative is the signal that ended it.

        Args:
            kill_after: seconds to the SIGKILL.
            file_bytes: no file may grow above this; a write that would fails as on a full disk.
        """
        assert self._process.stdin and self._process.stdout
        request = {"argv": list(map(str, arguments)), "kill_after": kill_after, "file_bytes": file_bytes}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def fork_server() -> Iterator[ForkServer]:
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield ForkServer(process)
    finally:
        process.kill()
        process.wait()


def serve() -> None:
    for name in ("cli", "device_runtime.onnx_runtime", "device_runtime.personalizer", "device_runtime.solvers.exact"):
        import_module(f"fbkit.{name}")
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(request)
        handle = os.pidfd_open(child)
        if not select.select([handle], [], [], request["kill_after"])[0]:
            os.kill(child, signal.SIGKILL)
        os.close(handle)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


def _run(request: dict[str, Any]) -> None:
    from fbkit.cli import main

    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
    if request["file_bytes"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], resource.RLIM_INFINITY))
    sys.argv = ["fbkit", *request["argv"]]
    code = 70
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))
    serve()
