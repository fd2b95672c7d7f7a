"""Federated algorithms, one file each: what a client trains, and what the server averages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import nn

from fbkit.train.algorithms import fedavg, fedbabu
from fbkit.train.data import Batch
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.models import SplitModel


class Algorithm(Protocol):
    """The two functions that a module in this folder defines."""

    def averaged(self, model: SplitModel) -> nn.Module:
        """The part of the model that clients send and the server averages; the rest keeps its start."""

    def client_update(self, model: SplitModel, batches: Iterable[Batch], sgd: LocalSGD) -> float:
        """Train the received model in place on a client's batches; return the mean training loss."""


ALGORITHMS: dict[str, Algorithm] = {"fedavg": fedavg, "fedbabu": fedbabu}
