"""One round of federated training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fbkit.train.cohorts import sample_cohort
from fbkit.train.federation import Federation
from fbkit.train.local_client import LocalClient
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.models import norm_layers
from fbkit.train.recipe import POOLED
from fbkit.train.reduction import ReproducibleSum
from fbkit.train.seeds import Purpose, dropout_from, torch_stream


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
    settings, algorithm = recipe.training, federation.algorithm
    pictures = _pictures_of(federation, round_number)
    cohort = list(pictures)
    sizes = [len(indices) for indices in pictures.values()]
    sgd = LocalSGD(recipe.learning_rate(round_number), settings.momentum, settings.weight_decay)
    batcher = federation.batcher(augmented=True)

    everything = _tensors(model)
    server = [tensor.clone() for tensor in everything]
    averaged = _float_tensors(algorithm.averaged(model))
    scalar = torch.zeros(1, device=workers.device)
    total = ReproducibleSum([*averaged, scalar, scalar, scalar])

    with _training(federation):
        for client in workers.share(cohort, sizes):
            torch._foreach_copy_(everything, server)
            local = LocalClient(
                number=client,
                round_number=round_number,
                settings=settings,
                sgd=sgd,
                batcher=batcher,
                pictures=federation.dataset.train,
                indices=pictures[client],
                stream=torch_stream(recipe.seed, Purpose.LOCAL_TRAINING, round_number, client),
                states=federation.states,
            )
            with dropout_from(workers.device, recipe.seed, Purpose.DROPOUT, round_number, client):
                loss = algorithm.client_update(model, local)
            weight = len(pictures[client]) if settings.weighting == "examples" else 1
            seen = local.passes * len(pictures[client])
            total.add([*averaged, scalar + loss, scalar + stop_asked(), scalar + seen / weight], weight)
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
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = False


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor.data for tensor in (*module.parameters(), *module.buffers())]


def _float_tensors(module: nn.Module | None) -> list[Tensor]:
    return [tensor for tensor in _tensors(module) if tensor.is_floating_point()] if module else []
