"""Static normalisation statistics over silos, found in the engine's two ways; see ``fbkit.train.calibration``.

A silo is sent the weights and what statistics there are by now. It answers with those of the layers that have none, or,
when all have some, with its loss. So layer by layer takes a letter for each layer.
"""

from __future__ import annotations

import math

from fbkit.errors import UserError
from fbkit.train.flower.course import Course
from fbkit.train.flower.letters import STATISTICS, Letter, Loss, check_values
from fbkit.train.flower.pooling import mean_loss, pooled_statistics, read_statistics
from fbkit.train.models import norm_layers, set_static_statistics
from fbkit.train.norm_statistics import Statistics, in_order_of_use
from fbkit.train.records import CalibrationName, CalibrationRecord


def calibrate(course: Course) -> CalibrationRecord:
    """Give the server's model its static statistics, in place.

    Raises:
        UserError: too few silos answer, or the model's loss is not finite either way.
    """
    recipe, model = course.run.recipe, course.federation.model
    layers = in_order_of_use(course.federation)
    if not layers:
        return CalibrationRecord(kept="not-needed", losses={})
    if recipe.model.norm == "running":
        return CalibrationRecord(kept="running", losses={})
    if not recipe.training.calibrate:
        return CalibrationRecord(kept="none", losses={})
    one_pass = _statistics(course, layers)
    one_by_one = {layers[0]: one_pass[layers[0]]}  # before the first layer nothing is normalised
    for place, layer in enumerate(layers[1:], start=1):
        set_static_statistics(model, one_by_one)
        one_by_one[layer] = _statistics(course, layers[place:])[layer]
    candidates: dict[CalibrationName, Statistics] = {"one-pass": one_pass, "layer-by-layer": one_by_one}

    losses: dict[CalibrationName, float] = {}
    for way, statistics in candidates.items():
        set_static_statistics(model, statistics)
        losses[way] = _loss(course)
    finite = {way: loss for way, loss in losses.items() if math.isfinite(loss)}
    if not finite:
        raise UserError("the trained model's loss is not finite; train again with a lower training.lr")
    kept = min(finite, key=lambda way: finite[way])
    set_static_statistics(model, candidates[kept])
    return CalibrationRecord(kept=kept, losses={str(way): loss for way, loss in finite.items()})


def _statistics(course: Course, layers: list[str]) -> Statistics:
    """Pooled over the silos, of layers that have none yet."""
    modules = norm_layers(course.federation.model)
    channels = {layer: modules[layer].num_features for layer in layers}
    found = course.ask(
        STATISTICS,
        course.silos.numbers,
        lambda _client, letter: read_statistics(channels, letter),
        f"calibration, {len(layers)} layers to go",
    )
    return pooled_statistics(layers, found, course.pictures())


def _loss(course: Course) -> float:
    """With static statistics, mean over the silos' training pictures."""

    def read(_client: int, letter: Letter) -> float:
        return check_values(Loss, letter.values).loss

    return mean_loss(course.ask(STATISTICS, course.silos.numbers, read, "calibration, loss"), course.pictures())
