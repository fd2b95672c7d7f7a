"""Local only: every client for itself, the baseline without a server.

    for each round:
        for each client of the cohort:
            model <- the client's own (at first the run's initial one)
            model <- trained over the client's batches

Averaged: nothing. Stays with the client: its model, so there is no common body to export. Personalization: none needed.
"""

from __future__ import annotations

from torch import nn

from fbkit.train.local_client import LocalClient
from fbkit.train.models import SplitModel


def averaged(_model: SplitModel) -> None:
    return None


def own(model: SplitModel) -> nn.Module:
    return model


def client_update(model: SplitModel, client: LocalClient) -> float:
    client.restore(model)
    loss = client.sgd(model, model, client.batches())
    client.keep(model)
    return loss
