"""FedProx (Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, MLSys 2020, algorithm 2).

    FedAvg, but a client minimises its loss + mu / 2 * |model - the server's model|^2

Averaged: everything. Stays with the client: nothing. Personalization: fine-tuning the server's model, without the pull.
"""

from __future__ import annotations

from torch import nn

from fbkit.train.local_client import LocalClient
from fbkit.train.local_sgd import pull_to_present
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model


def own(_model: SplitModel) -> None:
    return None


def client_update(model: SplitModel, client: LocalClient) -> float:
    pull = pull_to_present(model, client.settings.mu)
    return client.sgd(model, model, client.batches(), pull)
