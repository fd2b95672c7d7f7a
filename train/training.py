"""A whole run: rounds, calibration, evaluation. The function behind ``fbkit train``."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from fbkit.console import Reporter, under_torchrun
from fbkit.errors import Interrupted, UserError
from fbkit.files import locked, refuse_existing, write_json
from fbkit.train.calibration import calibrate
from fbkit.train.data import Dataset
from fbkit.train.evaluation import evaluate, evaluate_initial, stages_of
from fbkit.train.federation import Federation, make_federation
from fbkit.train.metrics import MetricsLog
from fbkit.train.recipe import GIVEN, POOLED, Recipe
from fbkit.train.rounds import run_round
from fbkit.train.run_folder import (
    Run,
    create_run,
    has_checkpoint,
    load_checkpoint,
    open_run,
    resume_command,
    save_checkpoint,
)
from fbkit.train.workers import Workers, default_worker_count, run_on_workers


def train(
    recipe: Recipe,
    out: Path,
    workers: int | None = None,
    reporter: Reporter | None = None,
    dataset: Dataset | None = None,
) -> Run:
    """Train by a recipe into a new run folder.

    Args:
        recipe: what to train, see ``load_recipe``.
        out: the run folder to make.
        workers: processes on this machine; None for one a GPU or, without GPUs, one a core. Under torchrun the
            workers are torchrun's. More than one are started with Python's ``spawn``, so a script that calls this
            needs the usual ``if __name__ == "__main__"``.
        reporter: where progress goes; None for nowhere.
        dataset: the data set of a recipe with ``data.source = "given"``, see ``dataset_from_torch``.

    Raises:
        UserError: the folder exists, the recipe does not fit the data, a worker died, or the loss is not finite.
        Interrupted: Ctrl-C; the run folder holds a checkpoint of the last whole round.
    """
    refuse_existing(out)
    if dataset and recipe.data.source != GIVEN:
        raise UserError(f"data.source = '{recipe.data.source}', but a data set was given; set data.source = '{GIVEN}'")
    return _start(recipe, out, False, workers, reporter, dataset)


def resume(
    out: Path, workers: int | None = None, reporter: Reporter | None = None, dataset: Dataset | None = None
) -> Run:
    """Go on with a run from its last checkpoint, to the same result as if it had not stopped.

    Raises:
        UserError: as ``train``; and where ``out`` is no run folder.
    """
    run = open_run(out)
    if run.is_complete:
        return run
    return _start(run.recipe, out, True, workers, reporter, dataset)


def _start(
    recipe: Recipe,
    out: Path,
    resumed: bool,
    workers: int | None,
    reporter: Reporter | None,
    dataset: Dataset | None,
) -> Run:
    # Without clients of its own a worker would only cost memory.
    useful = 1 if recipe.training.algorithm in POOLED else recipe.training.cohort
    workers = workers or min(default_worker_count(), useful)
    return run_on_workers(workers, _train_on_worker, recipe, out, resumed, dataset, first_only={"reporter": reporter})


def _train_on_worker(
    workers: Workers,
    recipe: Recipe,
    out: Path,
    resumed: bool,
    dataset: Dataset | None,
    reporter: Reporter | None = None,
) -> Run:
    reporter = reporter or Reporter(quiet=True)
    begun = resumed and has_checkpoint(out)
    start = recipe.without_init() if begun else recipe
    federation = make_federation(start, workers, out / "clients", dataset, reporter)
    workers.wait_for_all()  # under torchrun every worker looks whether the folder exists, before the first makes it
    if workers.is_first and not resumed:
        create_run(out, federation)
    workers.wait_for_all()
    run = open_run(out)
    run.check_data(federation)

    with locked(out / "run.json", "fbkit train") if workers.is_first else nullcontext():
        workers.wait_for_all()  # nobody reads the checkpoint before the lock is held
        done = load_checkpoint(out, federation.model)
        federation.states.durable_round = done
        federation.note_rounds_until(done)
        log = MetricsLog(out, after_round=done) if workers.is_first else None
        try:
            _run_rounds(federation, run, done + 1, log, reporter)
            _finish(federation, run, reporter)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(f"stopped; go on with: {resume_command(out)}") from interrupt
        finally:
            if log:
                log.close()
    return run


def _run_rounds(federation: Federation, run: Run, first: int, log: MetricsLog | None, reporter: Reporter) -> None:
    recipe = federation.recipe
    settings = recipe.training
    watched = federation.clients.chosen(recipe.evaluation.clients)
    with (
        _StopSignal(federation.workers) as stop,
        reporter.stage(f"training {settings.algorithm}", settings.rounds) as advance,
    ):
        for _ in range(1, first):
            advance("")
        saved = first - 1
        for number in range(first, settings.rounds + 1):
            started = time.monotonic()
            result = run_round(federation, number, stop.asked)
            # Whoever finished this round saw the first worker start it, after it had written the checkpoint before.
            federation.states.durable_round = saved
            if not math.isfinite(result.loss):
                raise UserError(
                    f"{run.folder}: the training loss is {result.loss} in round {number}; lower training.lr "
                    f"({settings.lr}); the last checkpoint is kept"
                )
            seconds = time.monotonic() - started
            values = {
                "train_loss": result.loss,
                "lr": recipe.learning_rate(number),
                "seconds": seconds,
                "pictures_per_second": result.pictures / seconds,
            }
            last = number == settings.rounds
            if recipe.evaluation.every and (number % recipe.evaluation.every == 0 or last):
                accuracies = evaluate_initial(federation, watched, "batch")
                values["initial_accuracy"] = accuracies.mean
                reporter.line(
                    f"{settings.algorithm} round {number}/{settings.rounds}: loss {result.loss:.3f}, accuracy before "
                    f"personalization {accuracies.mean:.1f}%, {values['pictures_per_second']:.0f} pictures/s"
                )
            elif not reporter.has_bars and number % max(1, settings.rounds // 10) == 0:
                reporter.line(
                    f"{settings.algorithm} round {number}/{settings.rounds}: loss {result.loss:.3f}, "
                    f"{values['pictures_per_second']:.0f} pictures/s"
                )
            if log:
                log.write(number, values)
            if result.stop or last or number % settings.checkpoint_every == 0:
                saved = number
                if federation.workers.is_first:
                    save_checkpoint(run.folder, federation.model, number)
            advance(f"loss {result.loss:.3f}")
            if result.stop and not last:
                raise Interrupted(
                    f"stopped after round {number} of {settings.rounds}; go on with: {resume_command(run.folder)}"
                )


def _finish(federation: Federation, run: Run, reporter: Reporter) -> None:
    """Calibrate, evaluate and write what export needs; every worker takes part, the first one writes."""
    recipe = federation.recipe
    with reporter.stage(f"calibrating {recipe.training.algorithm}", 1) as advance:
        calibration = calibrate(federation)
        advance("")
    stages = stages_of(recipe.evaluation, recipe.personalization)
    with reporter.stage(f"evaluating {recipe.training.algorithm}", stages) as advance:
        evaluation = evaluate(federation, recipe.evaluation, recipe.personalization, calibration, advance)
    if federation.workers.is_first:
        federation.states.tidy()
        run.save_model(federation.model)
        write_json(run.folder / "evaluation.json", evaluation.model_dump(), compact=True)
    federation.workers.wait_for_all()


class _StopSignal:
    """While open, the first Ctrl-C (or SIGTERM) asks for a stop after the round; a second one interrupts at once."""

    def __init__(self, workers: Workers) -> None:
        listens = workers.is_first or under_torchrun()
        self._listens = listens and threading.current_thread() is threading.main_thread()
        self._asked = False

    def asked(self) -> bool:
        return self._asked

    def __enter__(self) -> Self:
        if self._listens:
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listens:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
