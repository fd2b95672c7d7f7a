"""FedPer (Arivazhagan, Aggarwal, Singh, Choudhary, 2019, algorithms 1 and 2), with the head as personalization layer.

    for each round:
        for each client of the cohort:
            body <- the server's body; head <- the client's own (at first the run's initial one)
            body, head <- both trained together over the client's batches
        the server's body <- weighted mean of the clients' bodies

Averaged: the body. Stays with the client: its head. Personalization: none needed; fine-tuning starts from the own head.
"""

from __future__ import annotations

from torch import nn

from fbkit.train.local_client import LocalClient
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model.body


def own(model: SplitModel) -> nn.Module:
    return model.head


def client_update(model: SplitModel, client: LocalClient) -> float:
    client.restore(model.head)
    loss = client.sgd(model, model, client.batches())
    client.keep(model.head)
    return loss
