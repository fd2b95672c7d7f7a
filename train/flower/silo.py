"""What a silo does with the server's letters.

It is the engine's own work on a federation of one client, so the result is what the engine has for that client.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import fbkit
from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.algorithms import ALGORITHMS
from fbkit.train.client_states import ClientStates
from fbkit.train.data import Pictures
from fbkit.train.evaluation import evaluate
from fbkit.train.federation import Federation
from fbkit.train.flower.letters import (
    DESCRIBE,
    EVALUATE,
    STATISTICS,
    TRAIN,
    Description,
    Judged,
    Letter,
    Loss,
    Refusal,
    Trained,
)
from fbkit.train.flower.silo_pictures import Place, load_pictures
from fbkit.train.flower.terms import Terms, head_sha256, travelling_part
from fbkit.train.judging import score
from fbkit.train.models import build_model, norm_layers, set_static_statistics
from fbkit.train.norm_statistics import in_order_of_use, pooled_statistics
from fbkit.train.owned import Owned
from fbkit.train.partition import Clients
from fbkit.train.recipe import Recipe, parse_recipe
from fbkit.train.records import CalibrationRecord
from fbkit.train.rounds import run_round
from fbkit.train.sources.assembling import channel_sums
from fbkit.train.weights import load_into
from fbkit.train.workers import Workers, run_on_workers


def answer(kind: str, terms: Terms, tensors: dict[str, Tensor], place: Place, reporter: Reporter) -> Letter:
    """Do what a letter of this kind asks for, on the first GPU or on one thread.

    Args:
        tensors: the server's weights, of the part that the algorithm averages.

    Raises:
        Refusal: what may be told to the server.
        UserError: what may not, because it can name files.
    """
    return run_on_workers(1, _answer, kind, terms, tensors, place, first_only={"reporter": reporter})


def _answer(
    workers: Workers, kind: str, terms: Terms, tensors: dict[str, Tensor], place: Place, reporter: Reporter
) -> Letter:
    federation = _federation_of_one(terms, tensors, place, workers, reporter)
    return _WORK[kind](federation, terms)


def _federation_of_one(
    terms: Terms, tensors: dict[str, Tensor], place: Place, workers: Workers, reporter: Reporter
) -> Federation:
    """The engine's view of this silo: it is the only client that trains, under its own number."""
    recipe = _recipe_for_one(terms)
    dataset = load_pictures(recipe, terms.classes, place, reporter)
    model = build_model(recipe.model, dataset.shape, len(terms.classes), recipe.seed)
    if head_sha256(model.head) != terms.head_sha256:
        raise Refusal(
            "makes another head from the run's seed than the server; both need the same versions of fbkit and torch, "
            f"here fbkit {fbkit.__version__} and torch {torch.__version__}"
        )
    algorithm = ALGORITHMS[recipe.training.algorithm]
    if tensors:
        _load(travelling_part(algorithm, model), tensors)
    train, test = (
        Pictures(pictures.images.to(workers.device), pictures.labels.to(workers.device))
        for pictures in (dataset.train, dataset.test)
    )
    clients = Clients(
        _all_are_of(place.client, len(train)), _all_are_of(place.client, len(test)), (place.client,), held_out=()
    )
    return Federation(
        recipe,
        workers,
        replace(dataset, train=train, test=test),
        clients,
        model.to(workers.device),
        algorithm,
        ClientStates(Path(os.devnull)),  # these algorithms leave nothing with a client
    )


def _all_are_of(client: int, pictures: int) -> Owned:
    """The engine counts clients from 0; those before this one are elsewhere, and have nothing here."""
    sizes = np.zeros(client + 1, np.int64)
    sizes[client] = pictures
    return Owned(np.arange(pictures), sizes)


def _recipe_for_one(terms: Terms) -> Recipe:
    try:
        values = terms.parsed_recipe().model_dump(mode="json")
        if terms.mean:
            values["data"] |= {"mean": terms.mean, "std": terms.std}
        values["training"]["cohort"] = 1
        values["model"]["init"] = ""  # the server's weights come with its letters
        values["evaluation"]["clients"] = "training"
        return parse_recipe(values, "the server's letter")
    except UserError as error:
        raise Refusal(f"cannot work by the server's recipe ({error})") from error


def _load(part: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the server's weights, with static statistics where it has made them."""
    blank = {
        name: (torch.zeros(layer.num_features), torch.ones(layer.num_features))
        for name, layer in norm_layers(part).items()
        if f"{name}.running_mean" in tensors
    }
    set_static_statistics(part, blank)
    try:
        load_into(part, tensors, Path("the server's weights"))
    except UserError as error:
        raise Refusal(f"cannot use the server's weights ({error})") from error


def _describe(federation: Federation, _terms: Terms) -> Letter:
    (client,) = federation.clients.training
    train = federation.dataset.train
    sums = np.empty((0, 2), np.int64)
    if not federation.recipe.data.mean:
        sums = channel_sums(train.images.cpu().numpy()).sum(axis=0)
    said = Description(
        client=client,
        train_pictures=len(train),
        test_pictures=len(federation.dataset.test),
        sums=sums[:, 0].tolist(),
        squares=sums[:, 1].tolist(),
    )
    return Letter(said.model_dump())


def _train(federation: Federation, terms: Terms) -> Letter:
    result = run_round(federation, terms.round_number)
    if not math.isfinite(result.loss):
        raise Refusal(f"its training loss is {result.loss}; lower training.lr")
    return Letter(Trained(loss=result.loss, pictures=result.pictures).model_dump(), _averaged(federation))


def _statistics(federation: Federation, _terms: Terms) -> Letter:
    """Those of the layers that have none yet; where all have some, the loss with them."""
    modules = norm_layers(federation.model)
    layers = in_order_of_use(federation)
    static = [layer for layer in layers if modules[layer].running_mean is not None]
    if len(static) == len(layers):
        indices = federation.clients.train[federation.clients.training[0]]
        _, loss = score(federation, indices, "static", "train")
        return Letter(Loss(loss=loss / len(indices)).model_dump())
    found = pooled_statistics(federation, [layer for layer in layers if layer not in static], static)
    means = {f"{layer}.mean": mean.cpu() for layer, (mean, _) in found.items()}
    return Letter({}, means | {f"{layer}.variance": variance.cpu() for layer, (_, variance) in found.items()})


def _judge(federation: Federation, _terms: Terms) -> Letter:
    recipe = federation.recipe
    elsewhere = CalibrationRecord(kept="none", losses={})  # the server knows where its statistics come from
    found = evaluate(federation, recipe.evaluation, recipe.personalization, elsewhere)
    return Letter(Judged(evaluation=found.model_dump_json()).model_dump())


def _averaged(federation: Federation) -> dict[str, Tensor]:
    part = travelling_part(federation.algorithm, federation.model)
    return {name: values.cpu() for name, values in part.state_dict().items()}


_WORK: dict[str, Callable[[Federation, Terms], Letter]] = {
    DESCRIBE: _describe,
    TRAIN: _train,
    STATISTICS: _statistics,
    EVALUATE: _judge,
}
