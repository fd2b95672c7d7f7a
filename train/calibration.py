"""Static normalisation statistics, found federatedly after the last round.

The paper's models normalise every batch by itself, so a prediction depends on its neighbours in the batch. A device
sees one picture. So the training clients report, for each normalisation layer, how many values its input had, their
sum and their sum of squares; the server pools them into one mean and variance for each channel.

Two ways are tried. ``one-pass``: every layer at once, while all normalise by the batch. ``layer-by-layer``: each
layer in its turn, while those before it already use their pooled statistics, as they will on the device. Kept is the
way whose model has the lower loss on the training clients' training pictures.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch

from fbkit.errors import UserError
from fbkit.train.federation import Federation
from fbkit.train.judging import score
from fbkit.train.models import set_static_statistics
from fbkit.train.norm_statistics import Statistics, in_order_of_use, my_training_clients, pooled_statistics
from fbkit.train.recipe import NO_COMMON_BODY, OWN_PART
from fbkit.train.records import CalibrationName, CalibrationRecord
from fbkit.train.reduction import ReproducibleSum


def calibrate(federation: Federation) -> CalibrationRecord:
    """Give ``federation.model`` its static statistics, in place.

    Models that kept running statistics, or normalise without any, are left as they are; so are runs that share no body,
    and those whose recipe leaves calibration out.

    Raises:
        UserError: the model's loss is not finite either way.
    """
    recipe = federation.recipe
    layers = in_order_of_use(federation)
    if recipe.model.norm == "running" and layers:
        return CalibrationRecord(kept="running", losses={})
    if not layers:
        return CalibrationRecord(kept="not-needed", losses={})
    if not recipe.training.calibrate or recipe.training.algorithm in NO_COMMON_BODY:
        return CalibrationRecord(kept="none", losses={})
    candidates: dict[CalibrationName, Statistics] = {"one-pass": pooled_statistics(federation, layers, static=())}
    one_by_one: Statistics = {}
    for layer in layers:
        one_by_one |= pooled_statistics(federation, [layer], static=tuple(one_by_one))
        set_static_statistics(federation.model, one_by_one)
    candidates["layer-by-layer"] = one_by_one

    losses: dict[CalibrationName, float] = {}
    for way, statistics in candidates.items():
        set_static_statistics(federation.model, statistics)
        losses[way] = _training_loss(federation)
    finite = {way: loss for way, loss in losses.items() if math.isfinite(loss)}
    if not finite:
        raise UserError("the trained model's loss is not finite; train again with a lower training.lr")
    kept = min(finite, key=lambda way: finite[way])
    set_static_statistics(federation.model, candidates[kept])
    return CalibrationRecord(kept=kept, losses={str(way): loss for way, loss in finite.items()})


def _training_loss(federation: Federation) -> float:
    """Mean loss with static statistics over the training clients' training pictures."""
    own_head = OWN_PART.get(federation.recipe.training.algorithm) == "head"
    loss = torch.zeros(1, device=federation.workers.device)
    total = ReproducibleSum([loss])
    for client in my_training_clients(federation):
        indices = federation.clients.train[client]
        with federation.as_client(client) if own_head else nullcontext():
            _, loss_sum = score(federation, indices, "static", "train")
        total.add([loss + loss_sum / len(indices)], weight=len(indices))
    federation.workers.add_up(total.buffer)
    return float(total.mean()[0])
