"""FedAvg (McMahan, Moore, Ramage, Hampson, Aguera y Arcas, AISTATS 2017, algorithm 1).

    for each round:
        for each client of the cohort:
            model <- the server's model
            model <- model - lr * gradient, over the client's batches
        the server's model <- weighted mean of the clients' models

Averaged: everything. Stays on the client: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from fbkit.train.data import Batch
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model


def client_update(model: SplitModel, batches: Iterable[Batch], sgd: LocalSGD) -> float:
    return sgd(model, model, batches)
