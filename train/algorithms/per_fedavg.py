"""Per-FedAvg (Fallah, Mokhtari, Ozdaglar, NeurIPS 2020, algorithm 1), first order.

    for each round:
        for each client of the cohort:
            model <- the server's model
            for each two batches, one after the other:
                adapted <- model - inner_lr * gradient on the first
                model <- model - lr * gradient at adapted, on the second
        the server's model <- weighted mean of the clients' models

The gradient at the adapted model is used as it is, without the second derivatives (the paper's first-order variant). A
last batch without a second one serves as both.

Averaged: everything. Stays with the client: nothing. Personalization: fine-tuning; the model was trained to be good
after one step of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fbkit.train.data import Batch
from fbkit.train.local_client import LocalClient
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model


def own(_model: SplitModel) -> None:
    return None


def client_update(model: SplitModel, client: LocalClient) -> float:
    model.requires_grad_(True)
    parameters = list(model.parameters())
    optimizer = client.sgd.optimizer(model)
    total, seen = 0.0, 0
    for first, second in _in_pairs(client.batches()):
        start = [parameter.detach().clone() for parameter in parameters]
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(model(first[0]), first[1])
        loss.backward()
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=client.settings.inner_lr)
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model(second[0]), second[1]).backward()
        with torch.no_grad():
            torch._foreach_copy_([parameter.data for parameter in parameters], start)
        optimizer.step()
        total += float(loss.detach()) * len(first[1])
        seen += len(first[1])
    return total / max(seen, 1)


def _in_pairs(batches: Iterator[Batch]) -> Iterator[tuple[Batch, Batch]]:
    for first in batches:
        yield first, next(batches, first)
