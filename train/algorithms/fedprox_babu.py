"""FedProx+BABU (Oh, Kim, Yun, ICLR 2022): FedBABU whose clients are pulled to the server's body.

    FedBABU, but a client minimises its loss + mu / 2 * |body - the server's body|^2

Averaged: the body. Kept by all at its start: the head. Stays with the client: nothing. Personalization: fine-tuning the
head, or the whole model, without the pull.
"""

from __future__ import annotations

from torch import nn

from fbkit.train.local_client import LocalClient
from fbkit.train.local_sgd import pull_to_present
from fbkit.train.models import SplitModel


def averaged(model: SplitModel) -> nn.Module:
    return model.body


def own(_model: SplitModel) -> None:
    return None


def client_update(model: SplitModel, client: LocalClient) -> float:
    pull = pull_to_present(model.body, client.settings.mu)
    return client.sgd(model, model.body, client.batches(), pull)
