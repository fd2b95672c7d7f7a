"""Doing a plan's tasks: spread over processes of one thread each, stopped by Ctrl-C, gone on with by the next call."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from fbkit.benchmarks.paper.plan import Task
from fbkit.benchmarks.paper.store import Store
from fbkit.benchmarks.paper.wanted import Tuning, Wanted
from fbkit.console import Reporter
from fbkit.errors import Interrupted, UserError
from fbkit.train.recipe import EvaluationRecipe, PersonalizationRecipe
from fbkit.train.run_evaluation import evaluate_run
from fbkit.train.training import resume, train
from fbkit.train.workers import deaf_to_ctrl_c, default_worker_count

STOPPED = "stopped; what was done is kept, and the same command goes on from there"

_stop: Any  # in a process of the pool: its value is not 0 when it shall end


def run_tasks(tasks: Sequence[Task], store: Store, workers: int | None, reporter: Reporter) -> None:
    """Train and measure what is missing.

    Args:
        workers: processes, one task each at a time; None for one a core. With GPUs there is one task at a time, in
            this process, and ``workers`` are those of its training.

    Raises:
        UserError: a task failed; the message names its cell.
        Interrupted: Ctrl-C.
    """
    if not tasks:
        return
    with reporter.stage("runs and their evaluations", len(tasks)) as advance:
        done = 0

        def tell(task: Task, seconds: float) -> None:
            nonlocal done
            done += 1
            advance(task.label)
            if not reporter.has_bars:
                reporter.line(f"{done}/{len(tasks)} {task.label}: {seconds:.0f} s")

        processes = 1 if torch.cuda.is_available() else min(workers or default_worker_count(), len(tasks))
        if processes > 1:
            _in_processes(tasks, store, processes, tell, reporter)
            return
        for task in tasks:
            tell(task, do_task(task, store, workers if torch.cuda.is_available() else 1))


def do_task(task: Task, store: Store, workers: int | None) -> float:
    """Train the run, or go on with it, and measure what is missing; return the seconds it took."""
    started = time.monotonic()
    folder = store.run_folder(task.run)
    try:
        if not folder.exists():
            train(task.recipe, folder, workers)
        elif not task.is_trained:
            resume(folder, workers)
        for part in _apart(task.missing):
            evaluation = EvaluationRecipe(statistics=("batch",), templates=part.templates, pooled=part.pooled)
            tunings = [_recipe(tuning) for tuning in part.tunings]
            root = Path(task.recipe.data.root) if task.recipe.data.root else None
            store.keep(task.run, part, evaluate_run(folder, evaluation, tunings, workers, data_root=root))
    except (Interrupted, KeyboardInterrupt) as interrupt:
        raise Interrupted(STOPPED) from interrupt
    except UserError as error:
        raise UserError(f"{task.label}: {error}") from error
    except Exception as error:
        raise UserError(f"{task.label}: failed in {folder} ({type(error).__name__}: {error})") from error
    return time.monotonic() - started


def _apart(missing: Wanted) -> Iterator[Wanted]:
    """What is measured and written at once: each long fine-tuning alone, the quick things with the first of them."""
    first, rest = missing.tunings[:1], missing.tunings[1:]
    if missing:
        yield Wanted(missing.templates, missing.pooled, first)
    for tuning in rest:
        yield Wanted(tunings=(tuning,))


def _recipe(tuning: Tuning) -> PersonalizationRecipe:
    return PersonalizationRecipe(part=tuning.part, epochs=tuning.epochs, lr=(tuning.lr,), statistics="batch")


def _in_processes(
    tasks: Sequence[Task], store: Store, processes: int, tell: Callable[[Task, float], None], reporter: Reporter
) -> None:
    context = multiprocessing.get_context("spawn")
    stop = context.Value("b", 0, lock=False)  # no lock, which a killed or interrupted process could keep
    pool = ProcessPoolExecutor(processes, context, _begin, (stop,))
    waiting: dict[Future[float], Task] = {}
    try:
        with deaf_to_ctrl_c():  # what the processes inherit, until they can say so themselves
            for task in tasks:
                waiting[pool.submit(_do, task, store)] = task
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                task = waiting[future]
                tell(task, future.result())
                del waiting[future]
    except KeyboardInterrupt as interrupt:
        reporter.line("stopping after the rounds that run now; Ctrl-C again stops at once")
        raise Interrupted(STOPPED) from interrupt
    except BrokenProcessPool as error:
        raise UserError(
            "a process ended before its time, perhaps for want of memory; the same command goes on from there, with "
            f"fewer processes if need be: --workers {max(1, processes - 1)}"
        ) from error
    finally:
        stop.value = 1
        try:
            pool.shutdown(cancel_futures=True)
        except KeyboardInterrupt as again:
            for process in multiprocessing.active_children():
                process.kill()
            raise Interrupted(STOPPED) from again


def _begin(stop: Any) -> None:
    """In a process of the pool, once; a group of its own, so that only the command hears a terminal's Ctrl-C."""
    global _stop
    _stop = stop
    os.setpgrp()
    torch.set_num_threads(1)
    threading.Thread(target=_listen, args=(stop,), daemon=True).start()


def _listen(stop: Any) -> None:
    """Turn the command's wish to stop into the Ctrl-C that training understands; end when the command was killed."""
    parent = multiprocessing.parent_process()
    while not stop.value:
        if parent and not parent.is_alive():
            os._exit(1)
        time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
    if parent:
        parent.join()
    os._exit(1)


def _do(task: Task, store: Store) -> float:
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if _stop.value:
            raise Interrupted(STOPPED)
        return do_task(task, store, 1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
