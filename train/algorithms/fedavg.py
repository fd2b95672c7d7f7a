"""FedAvg (McMahan, Moore, Ramage, Hampson, Aguera y Arcas, AISTATS 2017, algorithm 1).

    for each round:
        for each client of the cohort:
            model <- the server's model
            model <- model - lr * gradient, over the client's batches
        the server's model <- weighted mean of the clients' models

Averaged: everything. Stays with the client: nothing. Personalization: fine-tuning the server's model.
"""

from __future__ import annotations

from torch import nn

from fbkit.train.local_client import LocalClient
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model


def own(_model: SplitModel) -> None:
    return None


def client_update(model: SplitModel, client: LocalClient) -> float:
    return client.sgd(model, model, client.batches())
