"""A worker's clients of a round, each trained from the server's weights: one after another, or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fbkit.train.federation import Federation
from fbkit.train.local_client import LocalClient
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.recipe import Recipe
from fbkit.train.seeds import Purpose, dropout_from, torch_stream
from fbkit.train.side_by_side import Cohort, StackedModel, places


@dataclass(frozen=True)
class Trained:
    """A client after its turn.

    averaged: the tensors it sends, as ``float_tensors`` lists them; good until the next client is asked for. loss: its
    mean training loss. passes: how often it went through its pictures.
    """

    client: int
    averaged: list[Tensor]
    loss: float
    passes: int


def train_clients(
    federation: Federation, round_number: int, clients: Sequence[int], pictures: Mapping[int, Tensor]
) -> Iterator[Trained]:
    """Train ``clients``, which are this worker's, on their ``pictures`` (indices). Changes the federation's model."""
    at_once = federation.clients_at_once
    if at_once == 1:
        yield from _one_by_one(federation, round_number, clients, pictures)
        return
    for first in range(0, len(clients), at_once):
        yield from _side_by_side(federation, round_number, clients[first : first + at_once], pictures)


def _one_by_one(
    federation: Federation, round_number: int, clients: Sequence[int], pictures: Mapping[int, Tensor]
) -> Iterator[Trained]:
    recipe, model, algorithm = federation.recipe, federation.model, federation.algorithm
    everything = all_tensors(model)
    server = [tensor.clone() for tensor in everything]
    averaged = float_tensors(algorithm.averaged(model))
    sgd, batcher = _sgd(recipe, round_number), federation.batcher(augmented=True)
    for client in clients:
        torch._foreach_copy_(everything, server)
        local = LocalClient(
            number=client,
            round_number=round_number,
            settings=recipe.training,
            sgd=sgd,
            batcher=batcher,
            pictures=federation.dataset.train,
            indices=pictures[client],
            stream=torch_stream(recipe.seed, Purpose.LOCAL_TRAINING, round_number, client),
            states=federation.states,
        )
        with dropout_from(federation.workers.device, recipe.seed, Purpose.DROPOUT, round_number, client):
            loss = algorithm.client_update(model, local)
        yield Trained(client, averaged, loss, local.passes)


def _side_by_side(
    federation: Federation, round_number: int, clients: Sequence[int], pictures: Mapping[int, Tensor]
) -> Iterator[Trained]:
    recipe = federation.recipe
    models = StackedModel(federation.model, len(clients))
    cohort = Cohort(
        numbers=list(clients),
        round_number=round_number,
        settings=recipe.training,
        local_sgd=_sgd(recipe, round_number),
        batcher=federation.batcher(augmented=True),
        pictures=federation.dataset.train,
        indices=[pictures[client] for client in clients],
        streams=[torch_stream(recipe.seed, Purpose.LOCAL_TRAINING, round_number, client) for client in clients],
        states=federation.states,
    )
    with dropout_from(federation.workers.device, recipe.seed, Purpose.DROPOUT, round_number, clients[0]):
        update: Callable[..., Any] = federation.algorithm.client_update
        losses: Tensor = update(models, cohort)
    part = federation.algorithm.averaged(models)
    singles: Iterator[nn.Module | None] = places(part) if part else iter([None] * len(clients))
    for client, single, loss in zip(clients, singles, losses.tolist(), strict=True):
        yield Trained(client, float_tensors(single), loss, cohort.passes)


def _sgd(recipe: Recipe, round_number: int) -> LocalSGD:
    settings = recipe.training
    return LocalSGD(recipe.learning_rate(round_number), settings.momentum, settings.weight_decay)


def all_tensors(module: nn.Module) -> list[Tensor]:
    """Parameters, then buffers."""
    return [tensor.data for tensor in (*module.parameters(), *module.buffers())]


def float_tensors(module: nn.Module | None) -> list[Tensor]:
    """Those of them that can be averaged."""
    return [tensor for tensor in all_tensors(module) if tensor.is_floating_point()] if module else []
