"""Accuracy of each client on its own test pictures, before and after it personalizes the model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fbkit.train.federation import Federation
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.recipe import PersonalizationRecipe
from fbkit.train.seeds import Purpose, torch_stream

Statistics = Literal["batch", "static"]


@dataclass(frozen=True)
class ClientAccuracies:
    """Percent correct for each client, in the order of ``clients``."""

    clients: tuple[int, ...]
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.accuracies))

    def summary(self) -> dict[str, float]:
        """Mean, standard deviation across clients and the mean of the worst tenth (at least one client)."""
        ordered = np.sort(self.accuracies)
        worst = ordered[: max(1, len(ordered) // 10)]
        return {"mean": self.mean, "std": float(np.std(ordered)), "worst_decile": float(worst.mean())}


def evaluate_initial(federation: Federation, clients: Sequence[int], statistics: Statistics) -> ClientAccuracies:
    """The server's model as it is, normalised by each batch or by its static statistics."""
    return _per_client(federation, clients, lambda client: test_accuracy(federation, client, statistics))


def evaluate_personalized(
    federation: Federation, clients: Sequence[int], recipe: PersonalizationRecipe
) -> ClientAccuracies:
    """Fine-tune the server's model for each client on its training pictures (augmented as in training), then test it.

    The server's model is the same afterwards.
    """
    settings = federation.recipe.training
    model = federation.model
    start = copy.deepcopy(model.state_dict())
    part = {"head": model.head, "body": model.body, "full": model}[recipe.part]
    sgd = LocalSGD(recipe.lr, settings.momentum, settings.weight_decay)
    batcher = federation.batcher(augmented=True)

    def personalize_and_test(client: int) -> float:
        model.load_state_dict(start)
        model.train(recipe.statistics == "batch")
        stream = torch_stream(federation.recipe.seed, Purpose.PERSONALIZATION, client)
        sgd(
            model,
            part,
            batcher.shuffled(federation.dataset.train, federation.clients.train[client], recipe.epochs, stream),
        )
        return test_accuracy(federation, client, recipe.statistics)

    result = _per_client(federation, clients, personalize_and_test)
    model.load_state_dict(start)
    return result


def test_accuracy(federation: Federation, client: int, statistics: Statistics) -> float:
    """Percent correct on a client's test pictures, shuffled (always the same way) so that a batch mixes its classes."""
    indices = federation.clients.test[client]
    stream = torch_stream(federation.recipe.seed, Purpose.EVALUATION_ORDER, client)
    correct, _ = score(federation, indices[torch.randperm(len(indices), generator=stream)], statistics, "test")
    return 100 * correct / len(indices)


def score(
    federation: Federation, indices: Tensor, statistics: Statistics, split: Literal["train", "test"]
) -> tuple[int, float]:
    """How many of the pictures the present model gets right, and the sum of its losses on them."""
    pictures = federation.dataset.train if split == "train" else federation.dataset.test
    federation.model.train(statistics == "batch")
    correct, loss = 0, 0.0
    with torch.inference_mode():
        for images, labels in federation.batcher(augmented=False).plain(pictures, indices):
            logits = federation.model(images)
            correct += int((logits.argmax(1) == labels).sum())
            loss += float(cross_entropy(logits, labels, reduction="sum"))
    return correct, loss


def _per_client(federation: Federation, clients: Sequence[int], measure: Callable[[int], float]) -> ClientAccuracies:
    """Spread the clients over the workers and give every worker all results."""
    workers = federation.workers
    results = torch.zeros(len(clients), dtype=torch.float64, device=workers.device)
    place = {client: position for position, client in enumerate(clients)}
    sizes = [len(federation.clients.test[client]) for client in clients]
    for client in workers.share(clients, sizes):
        results[place[client]] = measure(client)
    workers.add_up(results)
    return ClientAccuracies(tuple(clients), tuple(results.tolist()))
