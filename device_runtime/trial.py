"""The trial: a bundle that this machine does not know yet runs first in a process of its own, within limits.

Native runtimes expect files that their own tools wrote. Others can crash them, keep them busy for ever, or make them
ask for all memory. In the trial that ends a child, and the caller hears in one line which file did it.

The child (``trial_child.py``) answers on its stdout, a line each:

    ready           imports are done; from here on the limits hold
    at FILE         FILE is being loaded and run
    good            everything is as it must be
    refused WHAT    it is not; WHAT is the error's message
    starved         memory ran out
    missing WHAT    what runs the files is not installed
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fbkit.device_runtime.manifest import Manifest
from fbkit.device_runtime.pte_runtime import NoRuntime
from fbkit.errors import UserError

_CHILD = "fbkit.device_runtime.trial_child"
_START_SECONDS = 120.0  # to import a runtime from a slow disk
_MAX_ANSWER = 100_000

# Nothing else of the environment comes along.
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


@dataclass(frozen=True)
class Limits:
    """What a trial may take after its imports: seconds, and bytes of address space."""

    seconds: float
    memory: int


def limits_of(manifest: Manifest) -> Limits:
    """Far above what an honest bundle of this size needs on a slow device, and seconds for a small one."""
    size = sum(entry.bytes for entry in manifest.files.values())
    pixels = manifest.input.height * manifest.input.width
    # The self-test looks at some 8 pictures alone, and again in every batch; a full model does so once more.
    pictures = 2 * (8 + sum(manifest.body_batches or (8,)))
    largest_batch = max(manifest.body_batches, default=32)
    stacks = (os.cpu_count() or 1) * 16 * 1024**2  # of a runtime's threads
    activations = largest_batch * pixels * 512 * 4  # 512 float32 a pixel: some layers of 64 channels
    return Limits(
        seconds=4.0 + size / 4e6 + pictures * pixels * 1e-5,
        memory=min(512 * 1024**2 + 8 * size + activations + stacks, physical_memory()),
    )


def physical_memory() -> int:
    """Of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def run_trial(folder: Path, manifest: Manifest, digest: str) -> None:
    """Load and run a bundle's files in a child process.

    Args:
        folder: the bundle.
        manifest: its manifest.
        digest: SHA-256 of ``manifest.json``; the child refuses a folder that holds another by now.

    Raises:
        NoRuntime: what runs the files is not installed.
        UserError: the bundle is not good, or there can be no trial.
    """
    limits = limits_of(manifest)
    command = [sys.executable, "-P", "-m", _CHILD, str(folder), digest]
    with tempfile.TemporaryFile() as noise:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=noise,
                env=child_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"{folder}: cannot be tried out, {command[0]} does not start ({error.strerror})") from error
        try:
            _judge(folder, process, limits)
        except _NotStartedError as error:
            noise.seek(0)
            said = noise.read(_MAX_ANSWER).decode(errors="replace").strip().rpartition("\n")[2]
            raise UserError(f"{folder}: cannot be tried out in a process of its own ({said or error})") from error
        finally:
            _end(process)


class _NotStartedError(Exception):
    """The child was never ready."""


def _judge(folder: Path, process: subprocess.Popen[bytes], limits: Limits) -> None:
    """Return when the child says that the bundle is good, raise whatever else happens."""
    answers = _Answers(process)
    deadline = time.monotonic() + _START_SECONDS
    file = ""
    while line := answers.read(deadline):
        kind, _, text = line.partition(" ")
        if kind == "good":
            return
        if kind == "refused":
            raise UserError(text)
        if kind == "missing":
            raise NoRuntime(text)
        if kind == "starved":
            raise UserError(f"{folder}: {file}: needs more memory than it should; do not use this bundle")
        if kind == "ready":
            deadline = time.monotonic() + limits.seconds
        elif kind == "at":
            file = text
    late = line is None or process.returncode == -signal.SIGXCPU
    if not file:
        raise _NotStartedError("it was not ready in time" if late else f"it ended with {_ending(process.returncode)}")
    how = (
        f"is not done after {limits.seconds:.0f} seconds"
        if late
        else f"crashes its runtime ({_ending(process.returncode)})"
    )
    raise UserError(f"{folder}: {file}: {how}; do not use this bundle")


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


class _Answers:
    """The lines that a child writes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout  # noqa: S101  a pipe
        self._process, self._pipe = process, process.stdout
        self._held = b""

    def read(self, deadline: float) -> str | None:
        """The next line; empty when the child has ended; None when it is past the deadline."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while b"\n" not in self._held:
                if not selector.select(deadline - time.monotonic()):
                    return None
                chunk = os.read(self._pipe.fileno(), _MAX_ANSWER)
                if not chunk:
                    return "" if self._has_ended() else None
                self._held = (self._held + chunk)[:_MAX_ANSWER]
        line, _, self._held = self._held.partition(b"\n")
        return line.decode(errors="replace")

    def _has_ended(self) -> bool:
        """Its pipe is closed, so it should."""
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return False
        return True


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()


def child_environment() -> dict[str, str]:
    """The child's environment variables."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {
        **passed,
        "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),  # the same modules as here
        "ORT_DISABLE_TELEMETRY": "1",
        "MALLOC_ARENA_MAX": "2",  # each takes 64 MiB of address space
        "MALLOC_PERTURB_": "170",  # what reads memory that it did not write gives itself away
    }
