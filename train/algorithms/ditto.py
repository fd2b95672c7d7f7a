"""Ditto (Li, Hu, Beirami, Smith, ICML 2021, algorithm 1).

    for each round:
        for each client of the cohort:
            personal model <- trained by loss + pull / 2 * |personal model - the server's model|^2
            model <- the server's model, trained as in FedAvg
        the server's model <- weighted mean of the clients' models

A personal model starts from the server's model of the round in which its client is sampled first.

Averaged: everything. Stays with the client: a second, personal model. Personalization: none needed; the personal model
is judged, for a client that never trained the server's.
"""

from __future__ import annotations

import copy

from torch import nn

from fbkit.train.local_client import LocalClient
from fbkit.train.local_sgd import pull_to_present
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model


def own(model: SplitModel) -> nn.Module:
    return model


def client_update(model: SplitModel, client: LocalClient) -> float:
    personal = copy.deepcopy(model)
    client.restore(personal)
    pull = pull_to_present(model, client.settings.pull)
    loss = client.sgd(model, model, client.batches())
    client.sgd(personal, personal, client.batches(), pull)
    client.keep(personal)
    return loss
