"""What pfl is given to simulate the workload: users, their datasets, a model, and the round's learning rate."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import torch
from local_training import Batch, Batcher, optimizer_of, stream
from net import Net, make_net
from pfl.aggregate.base import get_num_datapoints_weight_name
from pfl.callback.base import TrainingProcessCallback
from pfl.common_types import Population
from pfl.data import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam import HyperParam
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from processes import end_with_parent
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from workload import Workload


class Classifier(nn.Module):
    """The net with the two methods that pfl's PyTorchModel asks for."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(self.net(images), labels)

    @torch.no_grad()
    def metrics(self, images: Tensor, labels: Tensor) -> dict[str, Weighted]:
        return {"loss": Weighted(self.loss(images, labels).item() * len(labels), len(labels))}


class User(PyTorchTensorDataset):
    """A client's pictures in memory, given out as augmented batches in a new order in each pass."""

    def __init__(self, tensors: Batch, batcher: Batcher, generator: torch.Generator) -> None:
        super().__init__(tensors)
        self.batcher, self.generator = batcher, generator

    def iter(self, batch_size: int | None) -> Iterator[Batch]:
        del batch_size  # the batcher's
        images, labels = self.raw_data
        return self.batcher.one_pass(images, labels, self.generator)


class GivenCohorts:
    """A user sampler that goes through the cohorts. It starts over at the end: pfl asks for more users ahead.

    With several workers pfl calls it in a process of its own, which would stay for ever after a worker that is killed,
    and with it the worker's connection to the others.
    """

    def __init__(self, workload: Workload) -> None:
        self.order = workload.cohorts.ravel().tolist()
        self.position = -1
        self.process = os.getpid()

    def __call__(self) -> int:
        if self.process != os.getpid():
            self.process = os.getpid()
            end_with_parent()
        self.position = (self.position + 1) % len(self.order)
        return int(self.order[self.position])


class Course(TrainingProcessCallback, HyperParam):
    """Gives each round its learning rate, and notes when it ended and how many pictures it took."""

    def __init__(self, workload: Workload) -> None:
        self.rates = workload.spec.learning_rates
        self.epochs = workload.spec.local_epochs
        self.times: list[float] = []
        self.pictures: list[int] = []

    def value(self) -> float:
        return self.rates[len(self.pictures)]

    def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
        del model
        self.times.append(time.time())
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        del model, central_iteration
        self.times.append(time.time())
        seen: Any = aggregate_metrics[get_num_datapoints_weight_name(Population.TRAIN)]
        self.pictures.append(round(float(seen.weighted_value)) * self.epochs)
        return False, Metrics()


def make_users(workload: Workload, rank: int) -> FederatedDataset:
    """Every client's dataset in memory, which pfl's guide calls fastest, with sizes for its sharing out of cohorts."""
    images, labels = torch.from_numpy(workload.images), torch.from_numpy(workload.labels)
    generator = stream(workload.spec.seed, rank)
    batcher = Batcher.of(workload.spec)
    users = []
    for client in range(workload.clients):
        indices = torch.from_numpy(workload.pictures_of(client))
        users.append(User((images[indices], labels[indices]), batcher, generator))
    return FederatedDataset(users.__getitem__, GivenCohorts(workload), dict(enumerate(workload.sizes)))


def make_model(workload: Workload) -> PyTorchModel:
    """The net; the server takes the mean of the clients' updates as it is."""
    spec = workload.spec
    classifier = Classifier(make_net(workload.shape, spec, workload.weights)).train()
    return PyTorchModel(
        model=classifier,
        local_optimizer_create=optimizer_of(spec),
        central_optimizer=torch.optim.SGD(classifier.parameters(), lr=1.0),
    )
