"""A whole run: rounds, calibration, evaluation. The function behind ``fbkit train``."""

from __future__ import annotations

import math
import signal
import threading
import time
from contextlib import closing, nullcontext
from enum import IntEnum
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from fbkit.console import Reporter, under_torchrun
from fbkit.errors import Interrupted, UserError
from fbkit.files import locked, refuse_existing, write_json
from fbkit.train.calibration import calibrate
from fbkit.train.checkpoints import CheckpointPolicy, Checkpoints
from fbkit.train.data import Dataset
from fbkit.train.evaluation import evaluate, evaluate_initial, stages_of
from fbkit.train.federation import Federation, make_federation
from fbkit.train.metrics import MetricsLog
from fbkit.train.recipe import GIVEN, OWN_PART, POOLED, Recipe
from fbkit.train.rounds import run_round
from fbkit.train.run_folder import Run, create_run, open_run, resume_command
from fbkit.train.workers import Workers, default_worker_count, run_on_workers


def train(
    recipe: Recipe,
    out: Path,
    workers: int | None = None,
    reporter: Reporter | None = None,
    dataset: Dataset | None = None,
    checkpoints: CheckpointPolicy | None = None,
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
        checkpoints: how many are kept, and whether time asks for some too; None for what ``CheckpointPolicy`` says.

    Raises:
        UserError: the folder exists, the recipe does not fit the data, a worker died, the loss is not finite, or the
            folder cannot be written; the run folder, once made, holds its last checkpoints.
        Interrupted: Ctrl-C; the run folder holds a checkpoint of the last whole round.
    """
    return _start(recipe, out, False, workers, reporter, dataset, checkpoints)


def resume(
    out: Path,
    workers: int | None = None,
    reporter: Reporter | None = None,
    dataset: Dataset | None = None,
    checkpoints: CheckpointPolicy | None = None,
    recipe: Recipe | None = None,
) -> Run:
    """Go on with a run from its last checkpoint, to the same result as if it had not stopped.

    Args:
        out: the run folder; a run that is complete is left as it is.
        workers, reporter, dataset, checkpoints: as for ``train``.
        recipe: begin by it where there is no run yet. Where there is one it must be the run's own.

    Raises:
        UserError: as ``train``; and where ``out`` is no run folder, or that of another recipe.
        Interrupted: as ``train``.
    """
    return _start(recipe, out, True, workers, reporter, dataset, checkpoints)


class _Todo(IntEnum):
    """What a look at the run folder told; a number, so that the first worker can tell the others."""

    BEGIN = 0
    GO_ON_FROM_START = 1
    GO_ON_FROM_CHECKPOINT = 2
    NOTHING = 3


def _look(recipe: Recipe | None, out: Path, go_on: bool) -> _Todo:
    """Raise UserError where the folder is not what it should be."""
    if not go_on or (recipe and not out.exists()):
        if (out / "run.json").exists():
            raise UserError(f"{out}: exists already; choose another folder, or go on with this run: --resume")
        refuse_existing(out)
        return _Todo.BEGIN
    run = open_run(out)
    if recipe:
        run.refuse_another(recipe)
    if run.is_complete:
        return _Todo.NOTHING
    return _Todo.GO_ON_FROM_CHECKPOINT if Checkpoints(out).rounds() else _Todo.GO_ON_FROM_START


def _start(
    recipe: Recipe | None,
    out: Path,
    go_on: bool,
    workers: int | None,
    reporter: Reporter | None,
    dataset: Dataset | None,
    checkpoints: CheckpointPolicy | None,
) -> Run:
    if dataset and recipe and recipe.data.source != GIVEN:
        raise UserError(f"data.source = '{recipe.data.source}', but a data set was given; set data.source = '{GIVEN}'")
    if not under_torchrun():  # there the first worker looks, when all are there
        if _look(recipe, out, go_on) is _Todo.NOTHING:
            return open_run(out)
        settings = (recipe or open_run(out).recipe).training
        # Without clients of its own a worker would only cost memory.
        workers = workers or min(default_worker_count(), 1 if settings.algorithm in POOLED else settings.cohort)
    policy = checkpoints or CheckpointPolicy()
    return run_on_workers(
        workers, _train_on_worker, recipe, out, go_on, dataset, policy, first_only={"reporter": reporter}
    )


def _train_on_worker(
    workers: Workers,
    recipe: Recipe | None,
    out: Path,
    go_on: bool,
    dataset: Dataset | None,
    policy: CheckpointPolicy,
    reporter: Reporter | None = None,
) -> Run:
    reporter = reporter or Reporter(quiet=True)
    # Only the first worker looks: on a network file system what others saw of a missing folder would stay with them.
    todo = _Todo(workers.from_first(_look(recipe, out, go_on) if workers.is_first else 0))
    if todo is _Todo.NOTHING:
        return open_run(out)
    if recipe is None or todo is not _Todo.BEGIN:
        recipe = open_run(out).recipe
    start = recipe.without_init() if todo is _Todo.GO_ON_FROM_CHECKPOINT else recipe
    federation = make_federation(start, workers, out / "clients", dataset, reporter)
    if workers.is_first and todo is _Todo.BEGIN:
        create_run(out, federation)
    workers.wait_for_all()
    run = open_run(out)
    run.check_data(federation)
    try:
        with locked(out / "run.json", "fbkit train") if workers.is_first else nullcontext():
            _train_locked(federation, run, Checkpoints(out, policy), reporter)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(f"stopped; go on with: {resume_command(out)}") from interrupt
    except OSError as error:
        if not error.filename:
            raise
        raise UserError(
            f"{error.filename}: cannot be written ({error.strerror}); make room there or make it writable, then go on "
            f"from the last checkpoint with: {resume_command(out)}"
        ) from error
    return run


def _train_locked(federation: Federation, run: Run, checkpoints: Checkpoints, reporter: Reporter) -> None:
    """From the checkpoint on to the end; nobody else works on the run."""
    is_first, model = federation.workers.is_first, federation.model
    done = 0
    if is_first:
        checkpoints.sweep()
        done, wrong = checkpoints.load_newest(model)
        if wrong:
            reporter.line(f"{wrong}; going back to the checkpoint before it")
        if done:
            reporter.line(f"going on after round {done} of {run.recipe.training.rounds}")
    done = federation.workers.from_first(done)
    if done and not is_first:
        checkpoints.load(model, done)
    federation.note_rounds_until(done)
    with closing(MetricsLog(run.folder, after_round=done)) if is_first else nullcontext() as log:
        _run_rounds(federation, run, done + 1, checkpoints, log, reporter)
        _finish(federation, run, checkpoints, reporter)


def _run_rounds(
    federation: Federation,
    run: Run,
    first: int,
    checkpoints: Checkpoints,
    log: MetricsLog | None,
    reporter: Reporter,
) -> None:
    """Train; ``log`` is there on the first worker, who writes figures and checkpoints."""
    recipe = federation.recipe
    settings = recipe.training
    watched = federation.clients.chosen(recipe.evaluation.clients)
    with (
        _StopSignal(federation.workers) as stop,
        reporter.stage(f"training {settings.algorithm}", settings.rounds, done=first - 1) as advance,
    ):
        for number in range(first, settings.rounds + 1):
            started = time.monotonic()
            if settings.algorithm in OWN_PART:
                federation.states.durable_round = checkpoints.oldest
            result = run_round(federation, number, stop.asked)
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
            note = f"loss {result.loss:.3f}, {values['pictures_per_second']:.0f} pictures/s"
            said = f"{settings.algorithm} round {number}/{settings.rounds}: {note}"
            last = number == settings.rounds
            if recipe.evaluation.every and (number % recipe.evaluation.every == 0 or last):
                accuracies = evaluate_initial(federation, watched, "batch")
                values["initial_accuracy"] = accuracies.mean
                reporter.line(f"{said}, accuracy before personalization {accuracies.mean:.1f}%")
            elif not reporter.has_bars:
                reporter.line(said)
            if log:
                log.write(number, values)
                if result.stop or last or number % settings.checkpoint_every == 0 or checkpoints.is_due:
                    log.sync()
                    checkpoints.save(federation.model, number)
            advance(note)
            if result.stop and not last:
                raise Interrupted(
                    f"stopped after round {number} of {settings.rounds}; go on with: {resume_command(run.folder)}"
                )


def _finish(federation: Federation, run: Run, checkpoints: Checkpoints, reporter: Reporter) -> None:
    """Calibrate, evaluate and write what export needs; every worker takes part, the first one writes."""
    recipe = federation.recipe
    with reporter.stage(f"calibrating {recipe.training.algorithm}", 1) as advance:
        calibration = calibrate(federation)
        advance("")
    stages = stages_of(recipe.evaluation, recipe.personalization)
    with reporter.stage(f"evaluating {recipe.training.algorithm}", stages) as advance:
        evaluation = evaluate(federation, recipe.evaluation, recipe.personalization, calibration, advance)
    if federation.workers.is_first:
        checkpoints.keep_newest(1)  # those before need what of the clients goes now
        federation.states.tidy()
        run.save_model(federation.model)
        write_json(run.folder / "evaluation.json", evaluation.model_dump(), compact=True)
    federation.workers.wait_for_all()


class _StopSignal:
    """While open, Ctrl-C or SIGTERM asks for a stop after the round; another Ctrl-C interrupts at once.

    Another SIGTERM does not: cluster managers send it to a process and to the one that started it, which passes it on.
    """

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

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self._asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True
