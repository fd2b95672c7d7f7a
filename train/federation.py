"""What every stage of a run works on: data, clients, algorithm and the server's model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.algorithms import ALGORITHMS, Algorithm
from fbkit.train.client_states import ClientStates
from fbkit.train.data import Batcher, Dataset, Pictures
from fbkit.train.models import SplitModel, build_model
from fbkit.train.partition import Clients, partition
from fbkit.train.recipe import Recipe, check_clients
from fbkit.train.sources import load_dataset
from fbkit.train.workers import Workers


@dataclass(frozen=True)
class Federation:
    """A recipe made real on one worker."""

    recipe: Recipe
    workers: Workers
    dataset: Dataset
    clients: Clients
    model: SplitModel
    algorithm: Algorithm
    states: ClientStates

    def batcher(self, augmented: bool) -> Batcher:
        data = self.recipe.data
        return Batcher(
            self.dataset.mean,
            self.dataset.std,
            self.recipe.training.batch_size,
            crop_padding=data.crop_padding if augmented else 0,
            flip=data.flip and augmented,
        )

    @contextmanager
    def as_client(self, client: int) -> Iterator[None]:
        """While open, ``model`` has the client's own part, where the algorithm gives it one and it has trained."""
        own = self.algorithm.own(self.model)
        if own is None:
            yield
            return
        before = {name: value.clone() for name, value in own.state_dict().items()}
        try:
            self.states.restore(client, own)
            yield
        finally:
            own.load_state_dict(before)


def make_federation(
    recipe: Recipe,
    workers: Workers,
    states: Path,
    dataset: Dataset | None = None,
    reporter: Reporter | None = None,
) -> Federation:
    """Load the data, deal it to the clients and build the model at its random start.

    Args:
        states: the folder for what stays with clients.
        dataset: the data set of a recipe whose source is ``given``.

    Raises:
        UserError: the data cannot be read, or the recipe does not fit them.
    """
    # Where pictures must be decoded or weights fetched, the first worker does it for all.
    if not workers.is_first:
        workers.wait_for_all()
    dataset = dataset or load_dataset(recipe.data, recipe.seed, reporter)
    model = build_model(recipe.model, dataset.shape, len(dataset.classes), recipe.seed)
    if workers.is_first:
        workers.wait_for_all()
    clients = partition(dataset, recipe.clients, recipe.seed)
    try:
        check_clients(recipe, len(clients.train))
    except ValueError as error:
        raise UserError(str(error)) from error
    on_device = Dataset(
        Pictures(dataset.train.images.to(workers.device), dataset.train.labels.to(workers.device)),
        Pictures(dataset.test.images.to(workers.device), dataset.test.labels.to(workers.device)),
        dataset.classes,
        dataset.mean,
        dataset.std,
        dataset.fingerprint,
        dataset.owners,
    )
    algorithm = ALGORITHMS[recipe.training.algorithm]
    return Federation(recipe, workers, on_device, clients, model.to(workers.device), algorithm, ClientStates(states))
