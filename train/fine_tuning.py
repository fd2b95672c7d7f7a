"""A client's fine-tuning of the model on its own pictures, judged after some epochs: one client, or several at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from torch import nn

from fbkit.train.federation import Federation
from fbkit.train.local_sgd import LocalSGD, run_steps
from fbkit.train.models import SplitModel
from fbkit.train.recipe import PersonalizationRecipe
from fbkit.train.seeds import Purpose, dropout_from, torch_stream
from fbkit.train.side_by_side import StackedModel, StackedSGD, places, run_stacked_steps, stacked_batches

AsClient = Callable[[int], AbstractContextManager[None]]
Judge = Callable[[Federation, int], float]
Figures = dict[tuple[int, float, int], float]  # by client, learning rate and epochs


def fine_tuned(
    federation: Federation, clients: Sequence[int], recipe: PersonalizationRecipe, as_client: AsClient, judge: Judge
) -> Iterator[list[float]]:
    """For each client the figures by learning rate and epochs, in the recipe's order. The model is the same afterwards.

    Args:
        as_client: while open, the federation's model is what the client starts from.
        judge: the figure of a client by the model of a federation, which may be another than ``federation``.
    """
    at_once = federation.clients_at_once
    for first in range(0, len(clients), at_once):
        together = clients[first : first + at_once]
        if len(together) == 1:
            found = _one(federation, together[0], recipe, as_client, judge)
        else:
            found = _side_by_side(federation, together, recipe, as_client, judge)
        for client in together:
            yield [found[client, lr, epochs] for lr in recipe.lr for epochs in recipe.epochs]


def _one(
    federation: Federation, client: int, recipe: PersonalizationRecipe, as_client: AsClient, judge: Judge
) -> Figures:
    model, seed = federation.model, federation.recipe.seed
    part = _part(model, recipe)
    batcher = federation.batcher(augmented=True)
    own = federation.clients.train[client]
    found: Figures = {}
    with as_client(client):
        start = copy.deepcopy(model.state_dict())
        for lr in recipe.lr:
            model.load_state_dict(start)
            optimizer = _sgd(federation, lr).optimizer(part)
            stream = torch_stream(seed, Purpose.PERSONALIZATION, client)
            with dropout_from(federation.workers.device, seed, Purpose.PERSONALIZATION_DROPOUT, client):
                for epoch in range(1, max(recipe.epochs) + 1):
                    model.train(recipe.statistics == "batch")
                    run_steps(model, part, batcher.shuffled(federation.dataset.train, own, 1, stream), optimizer)
                    if epoch in recipe.epochs:
                        found[client, lr, epoch] = judge(federation, client)
        model.load_state_dict(start)
    return found


def _side_by_side(
    federation: Federation, clients: Sequence[int], recipe: PersonalizationRecipe, as_client: AsClient, judge: Judge
) -> Figures:
    seed, pictures, batcher = federation.recipe.seed, federation.dataset.train, federation.batcher(augmented=True)
    with as_client(clients[0]):
        single = copy.deepcopy(federation.model)  # with statistics of its own, where clients have these
    models = StackedModel(single, len(clients))
    for client, place in zip(clients, places(models), strict=True):
        with as_client(client):
            place.load_state_dict(federation.model.state_dict())
    start = copy.deepcopy(models.state_dict())
    judged = replace(federation, model=single)
    part = _part(models, recipe)
    found: Figures = {}
    for lr in recipe.lr:
        models.load_state_dict(start)
        optimizer = StackedSGD(_sgd(federation, lr), part)
        streams = [torch_stream(seed, Purpose.PERSONALIZATION, client) for client in clients]
        with dropout_from(federation.workers.device, seed, Purpose.PERSONALIZATION_DROPOUT, clients[0]):
            for epoch in range(1, max(recipe.epochs) + 1):
                single.train(recipe.statistics == "batch")  # which says how the stack runs
                draws = [
                    batcher.draws(federation.clients.train[client], 1, stream)
                    for client, stream in zip(clients, streams, strict=True)
                ]
                run_stacked_steps(models, part, stacked_batches(batcher, pictures, draws), optimizer)
                if epoch in recipe.epochs:
                    for client, place in zip(clients, places(models), strict=True):
                        single.load_state_dict(place.state_dict())
                        found[client, lr, epoch] = judge(judged, client)
    return found


def _part(model: SplitModel, recipe: PersonalizationRecipe) -> nn.Module:
    parts: dict[str, nn.Module] = {"head": model.head, "body": model.body, "full": model}
    return parts[recipe.part]


def _sgd(federation: Federation, lr: float) -> LocalSGD:
    settings = federation.recipe.training
    return LocalSGD(lr, settings.momentum, settings.weight_decay)
