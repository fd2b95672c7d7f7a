"""FedBABU (Oh, Kim, Yun, ICLR 2022, algorithm 1): federated averaging with body aggregation and body update.

    the head is drawn at random, the same on every client, and is never trained
    for each round:
        for each client of the cohort:
            body <- the server's body
            body <- body - lr * gradient, over the client's batches, through the frozen head
        the server's body <- weighted mean of the clients' bodies

Averaged: the body. Kept by all at its start: the head. Stays with the client: nothing. Personalization: fine-tuning the
head, or the whole model.
"""

from __future__ import annotations

from torch import nn

from fbkit.train.local_client import LocalClient
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model.body


def own(_model: SplitModel) -> None:
    return None


def client_update(model: SplitModel, client: LocalClient) -> float:
    return client.sgd(model, model.body, client.batches())
