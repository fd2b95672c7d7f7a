"""One round of federated training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fbkit.train.cohorts import sample_cohort
from fbkit.train.federation import Federation
from fbkit.train.local_training import all_tensors, float_tensors, train_clients
from fbkit.train.models import norm_layers
from fbkit.train.recipe import POOLED
from fbkit.train.reduction import ReproducibleSum


@dataclass(frozen=True)
class RoundResult:
    """Mean local training loss over the cohort, pictures stepped on by all workers, whether anyone asked to stop."""

    loss: float
    pictures: int
    stop: bool


def run_round(federation: Federation, round_number: int, stop_asked: Callable[[], bool] = lambda: False) -> RoundResult:
    """Train the cohort, each client from the server's weights, and average into ``federation.model`` in place.

    The result is the same to the last bit for any number of workers of one CPU thread.
    """
    recipe, workers, model = federation.recipe, federation.workers, federation.model
    pictures = _pictures_of(federation, round_number)
    everything = all_tensors(model)
    server = [tensor.clone() for tensor in everything]
    averaged = float_tensors(federation.algorithm.averaged(model))
    scalar = torch.zeros(1, device=workers.device)
    total = ReproducibleSum([*averaged, scalar, scalar, scalar])

    with _training(federation):
        mine = workers.share(list(pictures), [len(indices) for indices in pictures.values()])
        for trained in train_clients(federation, round_number, mine, pictures):
            size = len(pictures[trained.client])
            weight = size if recipe.training.weighting == "examples" else 1
            seen = trained.passes * size / weight
            total.add([*trained.averaged, scalar + trained.loss, scalar + stop_asked(), scalar + seen], weight)
    workers.add_up(total.buffer)
    federation.note_round(round_number)

    *means, loss_mean, stop_mean, seen_mean = total.mean()
    torch._foreach_copy_(everything, server)  # what is not averaged stays as the server had it
    if averaged:
        torch._foreach_copy_(averaged, [tensor.float() for tensor in means])
    return RoundResult(float(loss_mean), round(float(seen_mean) * total.weight), float(stop_mean) > 0)


def _pictures_of(federation: Federation, round_number: int) -> dict[int, Tensor]:
    """The indices of each client of the round; of all training clients together where training is centralised."""
    clients = federation.clients
    if federation.recipe.training.algorithm in POOLED:
        return {len(clients.train): torch.cat([clients.train[client] for client in clients.training])}
    cohort = sample_cohort(federation.recipe, clients.training, round_number)
    return {client: clients.train[client] for client in cohort}


@contextmanager
def _training(federation: Federation) -> Iterator[None]:
    """Training mode; running statistics move only inside."""
    layers = norm_layers(federation.model).values()
    federation.model.train()
    for layer in layers:
        layer.track_running_stats = federation.recipe.model.norm == "running"
    half = torch.bfloat16 if federation.recipe.training.precision == "bfloat16" else None
    try:
        # Without the cache: it would keep weights as they were before the first step.
        with torch.autocast(federation.workers.device.type, half, enabled=bool(half), cache_enabled=False):
            yield
    finally:
        for layer in layers:
            layer.track_running_stats = False
