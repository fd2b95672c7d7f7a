"""FedRep (Collins, Hassani, Mokhtari, Shakkottai, ICML 2021, algorithm 1).

    for each round:
        for each client of the cohort:
            body <- the server's body; head <- the client's own (at first the run's initial one)
            head <- trained alone, for head_epochs
            body <- trained alone, for local_epochs, through the new head
        the server's body <- weighted mean of the clients' bodies

Averaged: the body. Stays with the client: its head. Personalization: training the own head for the final body.
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
    client.sgd(model, model.head, client.batches(client.settings.head_epochs))
    client.keep(model.head)
    return client.sgd(model, model.body, client.batches())
