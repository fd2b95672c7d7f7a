"""Centralised training with a fixed head (Oh, Kim, Yun, ICLR 2022): the head keeps its random start.

    for each round:
        body <- body - lr * gradient, over local_epochs passes through all training clients' pictures mixed

A round has one "client", the pool of all that train; the cohort is not used.

Averaged: the only body there is. Stays with the client: nothing. Personalization: fine-tuning head or model.
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
