"""FedBABU (Oh, Kim, Yun, ICLR 2022, algorithm 1): federated averaging with body aggregation and body update.

    the head is drawn at random, the same on every client, and is never trained
    for each round:
        for each client of the cohort:
            body <- the server's body
            body <- body - lr * gradient, over the client's batches, through the frozen head
        the server's body <- weighted mean of the clients' bodies
    afterwards each client fine-tunes its head on its own data

Averaged: the body. Kept by all at its start: the head.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from fbkit.train.data import Batch
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model.body


def client_update(model: SplitModel, batches: Iterable[Batch], sgd: LocalSGD) -> float:
    return sgd(model, model.body, batches)
