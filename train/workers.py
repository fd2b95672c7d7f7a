"""Processes that share the clients: one thread or one GPU each, one all-reduce a round.

Three ways in: alone in this process, started from here on this machine (``--workers``), or started by torchrun.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from fbkit.console import under_torchrun
from fbkit.errors import Interrupted, UserError, describe
from fbkit.train.meeting import meet_under_torchrun
from fbkit.train.memory import keep_freed_memory

Result = TypeVar("Result")

# A worker may be in its final evaluation for long while another waits. Under gloo a dead one is noticed at once.
_PATIENCE = timedelta(hours=6)

# In the errors of workers that only lost another one.
_LINE_BROKE = ("gloo", "NCCL", "Connection")


@dataclass(frozen=True)
class Workers:
    """This process's place among ``count`` equal workers."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def add_up(self, buffer: Tensor) -> None:
        """Replace ``buffer`` by its sum over all workers, in place."""
        if self.count > 1:
            dist.all_reduce(buffer)

    def wait_for_all(self) -> None:
        self.add_up(torch.zeros(1, device=self.device))

    def from_first(self, number: int) -> int:
        """The first worker's ``number``, on every worker."""
        told = torch.tensor([number if self.is_first else 0], dtype=torch.int64, device=self.device)
        self.add_up(told)
        return int(told)

    def share(self, items: Sequence[int], sizes: Sequence[int]) -> list[int]:
        """This worker's part of ``items``: longest first, each to the worker with the least so far."""
        loads = [0] * self.count
        mine = []
        for position in sorted(range(len(items)), key=lambda place: (-sizes[place], place)):
            worker = loads.index(min(loads))
            loads[worker] += sizes[position]
            if worker == self.rank:
                mine.append(items[position])
        return mine


def default_worker_count() -> int:
    """GPUs where there are any, else the cores this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.device_count()
    return usable_cores()


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_on_workers(
    count: int | None, function: Callable[..., Result], *arguments: Any, first_only: dict[str, Any]
) -> Result:
    """Call ``function(workers, *arguments)`` on every worker; return what this process's call returned.

    The first worker also gets the keywords ``first_only``, which need not be picklable.

    Raises:
        UserError: a worker ended before its time.
    """
    threads = torch.get_num_threads()
    # More threads would change the order of sums inside a worker, and cost more than they give.
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        if under_torchrun():
            return _under_torchrun(function, arguments, first_only)
        count = count or default_worker_count()
        if torch.cuda.is_available() and count > torch.cuda.device_count():
            raise UserError(f"--workers {count}: there are {torch.cuda.device_count()} GPUs, and a worker needs one")
        if count == 1:
            return function(Workers(device=_device(0)), *arguments, **first_only)
        return _on_this_machine(count, function, arguments, first_only)
    finally:
        torch.set_num_threads(threads)


def _device(local_rank: int) -> torch.device:
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
        return device
    return torch.device("cpu")


def _backend() -> str:
    return "nccl" if torch.cuda.is_available() else "gloo"


def _under_torchrun(function: Callable[..., Result], arguments: tuple[Any, ...], first_only: dict[str, Any]) -> Result:
    device = _device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        store, rank, count = meet_under_torchrun(_PATIENCE)
        dist.init_process_group(_backend(), store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the workers that torchrun started could not meet ({describe(error)})") from error
    try:
        return function(Workers(rank, count, device), *arguments, **(first_only if rank == 0 else {}))
    except Interrupted:
        raise  # every worker's, and the first says it
    except Exception as error:
        said = _reason(error)
        if not (said or rank == 0) or not _is_first_to_say(store):
            sys.exit(2)  # another worker has said it, or will
        if rank == 0:
            if said:
                raise
            raise UserError(_ended_early("")) from error
        if os.environ.get("FBKIT_DEBUG"):
            traceback.print_exc()
        sys.stderr.write(f"fbkit: {said}\n")
        sys.exit(2)
    finally:
        dist.destroy_process_group()


def _is_first_to_say(store: Any) -> bool:
    """Whether no other worker has said why all of them end: several may fail alike, or one by another's end."""
    try:
        return bool(store.add("said", 1) == 1)
    except RuntimeError:  # the store is gone with the first worker's machine
        return True


def _reason(error: Exception) -> str:
    """What to tell people; nothing where the error is only that another worker ended."""
    if isinstance(error, UserError):
        return str(error)
    lost = isinstance(error, dist.DistError) or any(word in str(error) for word in _LINE_BROKE)
    return "" if lost else f"a training worker failed ({describe(error)})"


def _ended_early(how: str) -> str:
    return (
        f"a training worker ended early{how}, perhaps for want of memory; "
        "a run that had begun goes on from its last checkpoint with --resume"
    )


def _on_this_machine(
    count: int, function: Callable[..., Result], arguments: tuple[Any, ...], first_only: dict[str, Any]
) -> Result:
    context = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="fbkit-workers-") as folder:
        meeting = f"file://{Path(folder) / 'meeting'}"
        others: list[BaseProcess] = []
        ready: list[Connection] = []
        try:
            with deaf_to_ctrl_c():  # what a process inherits; it could not yet say so itself
                for rank in range(1, count):
                    hears, tells = context.Pipe(duplex=False)
                    process: BaseProcess = context.Process(
                        target=_other_worker, args=(rank, count, meeting, tells, function, arguments), daemon=True
                    )
                    process.start()
                    tells.close()
                    others.append(process)
                    ready.append(hears)
            _wait_until_ready(ready)
            _join_group(0, count, meeting)
            result = function(Workers(0, count, _device(0)), *arguments, **first_only)
            for process in others:
                process.join(timeout=5)
            return result
        except (RuntimeError, EOFError) as error:
            for process in others:
                process.join(timeout=2)
            if said := _last_words(ready):
                raise UserError(said) from error
            dead = [process for process in others if process.exitcode not in (None, 0)]
            if dead:
                raise UserError(_ended_early(f" (exit code {dead[0].exitcode})")) from error
            raise
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
            for process in others:
                process.kill()


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """While open, Ctrl-C is not heard, neither here nor, for good, by processes started inside."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _wait_until_ready(ready: list[Connection]) -> None:
    """Return when every worker has said a word; raise EOFError when one ended before it could.

    Joining the group cannot be interrupted and would wait for a dead worker, so nobody joins before all are there.
    """
    waiting = set(ready)
    while waiting:
        for connection in wait(list(waiting)):
            assert isinstance(connection, Connection)  # noqa: S101  for the type checker
            connection.recv_bytes()
            waiting.remove(connection)


def _last_words(ready: list[Connection]) -> str:
    """What a worker that could not go on said about it, if any did."""
    for connection in ready:
        with suppress(EOFError, OSError):
            if connection.poll():
                return connection.recv_bytes().decode()
    return ""


def _join_group(rank: int, count: int, meeting: str) -> None:
    if _backend() == "gloo":  # workers of one machine need no other network than loopback
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    dist.init_process_group(_backend(), init_method=meeting, rank=rank, world_size=count, timeout=_PATIENCE)


def _other_worker(
    rank: int,
    count: int,
    meeting: str,
    ready: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach every process; the first worker tells the others
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    keep_freed_memory()
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    ready.send_bytes(b"here")
    try:
        _join_group(rank, count, meeting)
        function(Workers(rank, count, _device(rank)), *arguments)
    except Interrupted:
        return  # the first worker says it
    except Exception as error:  # noqa: BLE001  the first worker is gone, or hears the reason and says it
        if os.environ.get("FBKIT_DEBUG"):
            traceback.print_exc()
        if said := _reason(error):
            with suppress(OSError):
                ready.send_bytes(said.encode(errors="replace"))
        os._exit(1)


def _end_with_the_first() -> None:
    """End this process when the first worker is gone, also by SIGKILL: alone it may wait for others for hours."""
    first = multiprocessing.parent_process()
    if first:
        first.join()
        os._exit(1)
