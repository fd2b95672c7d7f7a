"""What every stage of a run works on, and one round of federated training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fbkit.train.algorithms import ALGORITHMS, Algorithm
from fbkit.train.data import Batcher, Dataset, Pictures, load_dataset
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.models import SplitModel, build_model
from fbkit.train.partition import Clients, partition
from fbkit.train.recipe import Recipe
from fbkit.train.reduction import ReproducibleSum
from fbkit.train.seeds import Purpose, numpy_stream, torch_stream
from fbkit.train.workers import Workers


@dataclass(frozen=True)
class Federation:
    """A recipe made real: data, clients, algorithm and the server's model, on one worker."""

    recipe: Recipe
    workers: Workers
    dataset: Dataset
    clients: Clients
    model: SplitModel
    algorithm: Algorithm

    def batcher(self, augmented: bool) -> Batcher:
        data = self.recipe.data
        return Batcher(
            self.dataset.mean,
            self.dataset.std,
            self.recipe.training.batch_size,
            crop_padding=data.crop_padding if augmented else 0,
            flip=data.flip and augmented,
        )


def make_federation(recipe: Recipe, workers: Workers) -> Federation:
    """Load the data, deal it to the clients and build the model at its random start.

    Raises:
        UserError: the recipe's partition does not fit the data.
    """
    dataset = load_dataset(recipe.data.source)
    clients = partition(dataset, recipe.clients, recipe.seed)
    model = build_model(recipe.model.name, recipe.model.width, dataset.shape, len(dataset.classes), recipe.seed)
    on_device = Dataset(
        Pictures(dataset.train.images.to(workers.device), dataset.train.labels.to(workers.device)),
        Pictures(dataset.test.images.to(workers.device), dataset.test.labels.to(workers.device)),
        dataset.classes,
        dataset.mean,
        dataset.std,
        dataset.fingerprint,
    )
    algorithm = ALGORITHMS[recipe.training.algorithm]
    return Federation(recipe, workers, on_device, clients, model.to(workers.device), algorithm)


@dataclass(frozen=True)
class RoundResult:
    """Mean local training loss over the cohort, pictures trained on by all workers, whether anyone asked to stop."""

    loss: float
    pictures: int
    stop: bool


def sample_cohort(recipe: Recipe, training: tuple[int, ...], round_number: int) -> list[int]:
    """The clients of a round, drawn without repetition from those that train."""
    rng = numpy_stream(recipe.seed, Purpose.COHORT, round_number)
    cohort: list[int] = rng.choice(training, size=recipe.training.cohort, replace=False).tolist()
    return cohort


def run_round(federation: Federation, round_number: int, stop_asked: Callable[[], bool] = lambda: False) -> RoundResult:
    """Train the cohort, each client from the server's weights, and average into ``federation.model`` in place.

    The result is the same to the last bit for any number of workers of one CPU thread.
    """
    recipe, workers, model = federation.recipe, federation.workers, federation.model
    settings = recipe.training
    cohort = sample_cohort(recipe, federation.clients.training, round_number)
    sizes = [len(federation.clients.train[client]) for client in cohort]
    sgd = LocalSGD(recipe.learning_rate(round_number), settings.momentum, settings.weight_decay)
    batcher = federation.batcher(augmented=True)

    parameters = [parameter.data for parameter in federation.algorithm.averaged(model).parameters()]
    server = [parameter.clone() for parameter in parameters]
    scalar = torch.zeros(1, device=workers.device)
    total = ReproducibleSum([*server, scalar, scalar])

    model.train()
    for client in workers.share(cohort, sizes):
        _copy(server, parameters)
        indices = federation.clients.train[client]
        stream = torch_stream(recipe.seed, Purpose.LOCAL_TRAINING, round_number, client)
        batches = batcher.shuffled(federation.dataset.train, indices, settings.local_epochs, stream)
        loss = federation.algorithm.client_update(model, batches, sgd)
        weight = len(indices) if settings.weighting == "examples" else 1
        total.add([*parameters, scalar + loss, scalar + stop_asked()], weight)
    workers.add_up(total.buffer)

    *averaged, loss_mean, stop_mean = total.mean()
    _copy([tensor.float() for tensor in averaged], parameters)
    return RoundResult(float(loss_mean), sum(sizes) * settings.local_epochs, float(stop_mean) > 0)


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    torch._foreach_copy_(target, source)
