"""Federated algorithms, one file each: what a client trains, what the server averages, what stays with the client."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from fbkit.train.algorithms import (
    centralized,
    centralized_fixed_head,
    ditto,
    fedavg,
    fedbabu,
    fedper,
    fedprox,
    fedprox_babu,
    fedrep,
    lg_fedavg,
    local_only,
    per_fedavg,
)
from fbkit.train.local_client import LocalClient
from fbkit.train.models import SplitModel


class Algorithm(Protocol):
    """The three functions that a module in this folder defines."""

    def averaged(self, model: SplitModel, /) -> nn.Module | None:
        """The part that clients send and the server averages; the rest of the server's model keeps its start."""

    def own(self, model: SplitModel, /) -> nn.Module | None:
        """The part that is a client's own after training, and is judged as such; None where all share one model."""

    def client_update(self, model: SplitModel, client: LocalClient, /) -> float:
        """Train the received model in place on a client's batches; return the mean training loss."""


ALGORITHMS: dict[str, Algorithm] = {
    "fedavg": fedavg,
    "fedprox": fedprox,
    "fedbabu": fedbabu,
    "fedprox-babu": fedprox_babu,
    "fedper": fedper,
    "fedrep": fedrep,
    "lg-fedavg": lg_fedavg,
    "per-fedavg": per_fedavg,
    "ditto": ditto,
    "local-only": local_only,
    "centralized": centralized,
    "centralized-fixed-head": centralized_fixed_head,
}
