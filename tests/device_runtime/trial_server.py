"""Trials without their start: a process that has imported every runtime, and forks for each trial.

Importing a runtime takes a hundred times as long as a trial. ``fast_python`` makes a program that stands for
``sys.executable``: it hands its arguments and its output to the server, and ends as the fork ends. So the code under
test starts, watches and kills a real process.

Run as ``python trial_server.py SOCKET``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from fbkit.device_runtime.trial import child_environment
from fbkit.device_runtime.trial_child import main

CLIENT = """\
#!{python} -IS
import json, os, resource, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
socket.send_fds(server, [json.dumps(sys.argv[1:]).encode()], [1, 2])
status = json.loads(server.recv(100) or b"256")
if os.WIFSIGNALED(status):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), os.WTERMSIG(status))
os._exit(os.waitstatus_to_exitcode(status))
"""


@contextmanager
def fast_python(folder: Path) -> Iterator[Path]:
    """The program that stands for ``sys.executable`` in trials, while the server runs."""
    address, program = folder / "socket", folder / "python"
    program.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    program.chmod(0o755)
    server = subprocess.Popen([sys.executable, __file__, str(address)], env=child_environment())
    try:
        while not address.exists():
            assert server.poll() is None, "the trial server ended"
            time.sleep(0.05)
        yield program
    finally:
        server.kill()
        server.wait()


def serve(address: str) -> None:
    """Fork a trial for each caller, one after the other, and tell how it ended."""
    import_module("fbkit.device_runtime.onnx_runtime")
    import_module("fbkit.device_runtime.executorch_official")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen()
    Path(f"{address}.new").rename(address)
    while True:
        caller, _ = listening.accept()
        with caller:
            request, descriptors, _, _ = socket.recv_fds(caller, 65536, 2)
            child = os.fork()
            if child == 0:
                for place, descriptor in enumerate(descriptors):
                    os.dup2(descriptor, place + 1)
                os.closerange(3, 100)
                sys.argv = json.loads(request)[2:]  # without -P -m
                main()
            for descriptor in descriptors:
                os.close(descriptor)
            with suppress(BrokenPipeError):
                caller.sendall(json.dumps(wait_for(child, caller)).encode())


def wait_for(child: int, caller: socket.socket) -> int:
    """The child's exit status; it is killed where the caller is."""
    handle = os.pidfd_open(child)
    watched: list[Any] = [handle, caller]
    ready, _, _ = select.select(watched, [], [])
    if handle not in ready:
        os.kill(child, signal.SIGKILL)
    os.close(handle)
    return os.waitpid(child, 0)[1]


if __name__ == "__main__":
    serve(sys.argv[1])
