"""LG-FedAvg (Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency, 2020, algorithm 1).

    for each round:
        for each client of the cohort:
            head <- the server's head; body <- the client's own (at first the run's initial one)
            body, head <- both trained together over the client's batches
        the server's head <- weighted mean of the clients' heads

Averaged: the head. Stays with the client: its body, so there is no common body to export. Personalization: none needed;
fine-tuning starts from the own body.
"""

from __future__ import annotations

from torch import nn

from fbkit.train.local_client import LocalClient
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model.head


def own(model: SplitModel) -> nn.Module:
    return model.body


def client_update(model: SplitModel, client: LocalClient) -> float:
    client.restore(model.body)
    loss = client.sgd(model, model, client.batches())
    client.keep(model.body)
    return loss
