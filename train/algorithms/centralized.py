"""Centralised training with a learned head: what federated training would be if all pictures lay in one place.

    for each round:
        model <- model - lr * gradient, over local_epochs passes through all training clients' pictures mixed

A round has one "client", the pool of all that train; the cohort is not used. As in the other methods the optimizer is
made anew in every round.

Averaged: the only model there is. Stays with the client: nothing. Personalization: fine-tuning it.
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
