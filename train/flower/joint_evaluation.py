"""One evaluation of all silos, from what each measured at home."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from fbkit.errors import UserError
from fbkit.train.evaluation import ClientAccuracies
from fbkit.train.flower.letters import Judged, Letter, check_values
from fbkit.train.recipe import Recipe
from fbkit.train.records import (
    Accuracies,
    ByStatistics,
    CalibrationRecord,
    Evaluation,
    PersonalizedAccuracies,
)


def read_evaluation(recipe: Recipe, number: int, letter: Letter) -> Evaluation:
    """A silo's figures.

    Raises:
        UserError: they are none, or not those that the recipe asks for.
    """
    said = check_values(Judged, letter.values)
    try:
        found = Evaluation.model_validate(json.loads(said.evaluation))
    except (ValidationError, ValueError, RecursionError) as error:
        raise UserError("sent figures that cannot be read") from error
    asked = [
        (how.part, epochs, lr, how.statistics)
        for how in recipe.personalization
        for lr in how.lr
        for epochs in how.epochs
    ]
    measured = {name for name, _ in found.initial.measured()}
    templates = {name for name, _ in found.templates.measured()} if found.templates else set()
    wanted = set(recipe.evaluation.statistics)
    got = [(after.part, after.epochs, after.lr, after.statistics) for after in found.personalized]
    if (found.clients, measured, templates, got) != (
        [number],
        wanted,
        wanted if recipe.evaluation.templates else set(),
        asked,
    ):
        raise UserError("sent other figures than were asked for")
    return found


def joined_evaluation(found: Mapping[int, Evaluation], calibration: CalibrationRecord) -> Evaluation:
    """One evaluation of all silos from each silo's own; all hold the same figures."""
    clients = tuple(found)
    first = next(iter(found.values()))

    def join(each: Sequence[Accuracies | None]) -> Accuracies:
        figures = tuple(one.per_client[0] for one in each if one)
        return ClientAccuracies(clients, figures).record()

    def join_by_statistics(each: Sequence[ByStatistics | None]) -> ByStatistics:
        batch, static = ([getattr(one, name) for one in each] for name in ("batch", "static"))
        return ByStatistics(batch=join(batch) if batch[0] else None, static=join(static) if static[0] else None)

    every = list(found.values())
    return Evaluation(
        clients=list(clients),
        own_part="none",
        without_own=[],
        calibration=calibration,
        initial=join_by_statistics([one.initial for one in every]),
        templates=join_by_statistics([one.templates for one in every]) if first.templates else None,
        pooled=None,
        personalized=[
            PersonalizedAccuracies(
                part=after.part,
                epochs=after.epochs,
                lr=after.lr,
                statistics=after.statistics,
                **join([one.personalized[place] for one in every]).model_dump(),
            )
            for place, after in enumerate(first.personalized)
        ],
    )
