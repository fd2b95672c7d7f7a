"""A whole run over silos, as the server sees it: from a recipe to a run folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.files import refuse_existing, write_json
from fbkit.train.algorithms import ALGORITHMS
from fbkit.train.checkpoints import Checkpoints
from fbkit.train.client_states import ClientStates
from fbkit.train.cohorts import sample_cohort
from fbkit.train.data import Dataset
from fbkit.train.federation import Federation
from fbkit.train.flower.averaging import Averager
from fbkit.train.flower.calibrating import calibrate
from fbkit.train.flower.course import Course
from fbkit.train.flower.gathering import Silos
from fbkit.train.flower.joint_evaluation import joined_evaluation, read_evaluation
from fbkit.train.flower.letters import EVALUATE, TRAIN, Channel, Letter
from fbkit.train.flower.made_up import FOLDER, write_made_up
from fbkit.train.flower.pooling import pooled_normalisation
from fbkit.train.flower.settings import Settings
from fbkit.train.flower.terms import Terms, head_sha256
from fbkit.train.metrics import MetricsLog
from fbkit.train.models import SplitModel, build_model
from fbkit.train.owned import Owned
from fbkit.train.partition import Clients
from fbkit.train.recipe import Recipe, check_clients, recipe_to_toml
from fbkit.train.run_folder import Run, create_run
from fbkit.train.sources import load_dataset
from fbkit.train.workers import Workers

_LOOK_EVERY = 1.0  # seconds


def federate(recipe: Recipe, settings: Settings, channel: Channel, reporter: Reporter) -> Run:
    """Train by a recipe over the silos that a channel reaches, into a new run folder.

    Raises:
        UserError: the run folder exists, or too few silos can take part or answer.
    """
    out = Path(settings.out).expanduser().resolve()
    refuse_existing(out)
    if settings.min_answers > recipe.training.cohort:
        raise UserError(
            f"run config: min-answers = {settings.min_answers} is more than training.cohort = {recipe.training.cohort}"
        )
    shape = (recipe.data.channels or 3, recipe.data.size, recipe.data.size)
    classes = settings.class_names
    model = build_model(recipe.model, shape, len(classes), recipe.seed)
    terms = Terms(
        recipe=recipe_to_toml(recipe.without_init()),
        classes=classes,
        head_sha256=_head_of_the_seed(recipe, shape, len(classes), model),
    )
    silos = Silos(channel, reporter, settings.min_answers)
    _wait_for(channel, settings.silos, reporter)
    silos.gather(Letter(terms.model_dump()), settings.silos)
    try:
        check_clients(recipe, len(silos.members))
    except ValueError as error:
        raise UserError(str(error)) from error
    mean, std = recipe.data.mean, recipe.data.std
    if not mean:
        said = [silos.members[number].said for number in silos.numbers]
        mean, std = pooled_normalisation(said, shape[0], shape[1] * shape[2])
    terms = terms.model_copy(update={"mean": list(mean), "std": list(std)})
    course = _make_run(recipe, out, model, terms, silos, reporter)
    _run_rounds(course)
    _finish(course)
    return course.run


def _wait_for(channel: Channel, needed: int, reporter: Reporter) -> None:
    seen = -1
    while (connected := len(channel.connected())) < needed:
        if connected != seen:
            reporter.line(f"waiting for silos: {connected} of {needed} are connected")
        seen = connected
        time.sleep(_LOOK_EVERY)


def _head_of_the_seed(recipe: Recipe, shape: tuple[int, int, int], classes: int, model: SplitModel) -> str:
    """The hash of the head that every silo can make; weights to start from must not have brought another."""
    made = head_sha256(build_model(recipe.without_init().model, shape, classes, recipe.seed).head)
    if made != head_sha256(model.head):
        raise UserError(
            f"model.init = '{recipe.model.init}' brings a head of its own, but silos make theirs from the seed; "
            "give weights of the body alone"
        )
    return made


def _make_run(recipe: Recipe, out: Path, model: SplitModel, terms: Terms, silos: Silos, reporter: Reporter) -> Course:
    """Make the run folder, with its made-up pictures, and what works on it."""
    values = recipe.data.model_copy(update={"root": str(out / FOLDER)})
    recipe = recipe.model_copy(update={"data": values})
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".partial", dir=_parent(out)) as beside:
        pictures = Path(beside) / FOLDER
        shape = (recipe.data.channels or 3, recipe.data.size, recipe.data.size)
        said = [silos.members[number].said.model_dump() for number in silos.numbers]
        seed = int(hashlib.sha256(json.dumps([said, terms.classes]).encode()).hexdigest()[:16], 16)
        clients, cohort = silos.numbers[-1] + 1, recipe.training.cohort
        write_made_up(pictures, shape, terms.classes, cohort + (cohort == clients), seed)
        made_up = load_dataset(recipe.data.model_copy(update={"root": str(pictures)}), recipe.seed)
        dataset = replace(
            made_up, classes=tuple(terms.classes), mean=tuple(terms.mean), std=tuple(terms.std), owners=None
        )
        federation = _federation(recipe, dataset, model, silos)
        run = create_run(out, federation)
        pictures.rename(out / FOLDER)
    return Course(run, federation, terms, silos, reporter)


def _parent(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror})") from error
    return out.parent


def _federation(recipe: Recipe, dataset: Dataset, model: SplitModel, silos: Silos) -> Federation:
    """The server's view: clients whose pictures are elsewhere."""
    nothing = Owned(np.arange(0), np.zeros(silos.numbers[-1] + 1, np.int64))
    return Federation(
        recipe,
        Workers(),
        dataset,
        Clients(nothing, nothing, silos.numbers, held_out=()),
        model,
        ALGORITHMS[recipe.training.algorithm],
        ClientStates(Path(os.devnull)),
    )


def _run_rounds(course: Course) -> None:
    recipe, settings = course.run.recipe, course.run.recipe.training
    pictures = course.pictures()
    weights = pictures if settings.weighting == "examples" else dict.fromkeys(pictures, 1)
    averager = Averager(course.part)
    checkpoints = Checkpoints(course.run.folder)
    log = MetricsLog(course.run.folder, after_round=0)
    done = saved = 0
    try:
        for number in range(1, settings.rounds + 1):
            started = time.monotonic()
            stage = f"round {number}/{settings.rounds}"
            cohort = sample_cohort(recipe, course.silos.numbers, number)
            updates = course.ask(TRAIN, cohort, averager.read, stage, number)
            loss = averager.average(updates, weights)
            seconds = time.monotonic() - started
            seen = sum(update.said.pictures for update in updates.values())
            log.write(
                number,
                {
                    "train_loss": loss,
                    "lr": recipe.learning_rate(number),
                    "seconds": seconds,
                    "pictures_per_second": seen / seconds,
                },
            )
            course.reporter.line(
                f"{settings.algorithm} {stage}: loss {loss:.3f}, {len(updates)} of {len(cohort)} silos, {seconds:.0f} s"
            )
            done = number
            if number == settings.rounds or number % settings.checkpoint_every == 0:
                log.sync()
                checkpoints.save(course.federation.model, number)
                saved = number
    finally:
        if done > saved:  # the run ends here; what was trained is kept
            log.sync()
            checkpoints.save(course.federation.model, done)
        log.close()


def _finish(course: Course) -> None:
    """Calibrate, write the weights, have the silos judge them."""
    recipe = course.run.recipe
    calibration = calibrate(course)
    course.run.save_model(course.federation.model)
    found = course.ask(
        EVALUATE,
        course.silos.numbers,
        lambda client, letter: read_evaluation(recipe, client, letter),
        "evaluation",
    )
    evaluation = joined_evaluation(found, calibration)
    write_json(course.run.folder / "evaluation.json", evaluation.model_dump(), compact=True)
