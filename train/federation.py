"""What every stage of a run works on: data, clients, algorithm and the server's model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.algorithms import ALGORITHMS, Algorithm
from fbkit.train.client_states import ClientStates
from fbkit.train.cohorts import sample_cohort
from fbkit.train.data import Batcher, Dataset, Pictures
from fbkit.train.models import SplitModel, build_model, judge_by, norm_layers
from fbkit.train.owned import sizes_of
from fbkit.train.partition import Clients, partition
from fbkit.train.recipe import ONE_BY_ONE, Recipe, check_clients
from fbkit.train.side_by_side import vmap_problem
from fbkit.train.sources import load_dataset
from fbkit.train.workers import Workers

# Clients that a GPU trains side by side, unless the recipe says otherwise.
AT_ONCE_ON_GPU = 16

# Of an evaluation: each client's figure for each thing that is measured. What fits a file that is read whole.
MOST_FIGURES = 1_000_000


@dataclass(frozen=True)
class Federation:
    """A recipe made real on one worker, which trains ``clients_at_once`` clients side by side."""

    recipe: Recipe
    workers: Workers
    dataset: Dataset
    clients: Clients
    model: SplitModel
    algorithm: Algorithm
    states: ClientStates
    clients_at_once: int = 1

    def batcher(self, augmented: bool) -> Batcher:
        data = self.recipe.data
        return Batcher(
            self.dataset.mean,
            self.dataset.std,
            self.recipe.training.batch_size,
            crop_padding=data.crop_padding if augmented else 0,
            flip=data.flip and augmented,
        )

    def note_round(self, round_number: int) -> None:
        """Every worker remembers who trained, where clients keep something."""
        if self.algorithm.own(self.model) is not None:
            self.states.note(sample_cohort(self.recipe, self.clients.training, round_number), round_number)

    def note_rounds_until(self, round_number: int) -> None:
        """The same for all rounds of a run that was trained before."""
        for number in range(1, round_number + 1):
            self.note_round(number)

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
    train, test = (
        Pictures(pictures.images.to(workers.device), pictures.labels.to(workers.device))
        for pictures in (dataset.train, dataset.test)
    )
    on_device = replace(dataset, train=train, test=test)
    algorithm = ALGORITHMS[recipe.training.algorithm]
    federation = Federation(
        recipe,
        workers,
        on_device,
        clients,
        model.to(workers.device),
        algorithm,
        ClientStates(states),
        _clients_at_once(recipe, model, dataset.shape, workers.device),
    )
    _refuse_what_would_fail_late(federation)
    return federation


def _clients_at_once(recipe: Recipe, model: SplitModel, shape: tuple[int, int, int], device: torch.device) -> int:
    """As many as the recipe asks for; where it leaves that open, several on a GPU if the model can.

    Raises:
        UserError: the recipe asks for several, and the model cannot run side by side.
    """
    asked = recipe.training.side_by_side
    count = asked or (AT_ONCE_ON_GPU if device.type == "cuda" and recipe.training.algorithm not in ONE_BY_ONE else 1)
    if count > 1 and (problem := vmap_problem(model, shape)):
        if asked:
            raise UserError(
                f"training.side_by_side = {asked}: model.name = '{recipe.model.name}' cannot run so on this device "
                f"({problem}); leave it out, and clients are trained one after another"
            )
        return 1
    return count


def _refuse_what_would_fail_late(federation: Federation) -> None:
    """Raise UserError for what would otherwise come to light in the middle of training, or after it."""
    recipe, clients = federation.recipe, federation.clients
    name = f"model.name = '{recipe.model.name}'"
    if not any(True for _ in federation.model.body.parameters()):
        raise UserError(f"{name}: nothing before its last linear layer can be trained, so there is no body to share")
    chosen = clients.chosen(recipe.evaluation.clients)
    numbers = len(chosen) * (6 + sum(len(how.lr) * len(how.epochs) for how in recipe.personalization))
    if numbers > MOST_FIGURES:
        raise UserError(
            f"personalization asks for {numbers:,} figures, more than {MOST_FIGURES:,}; ask for fewer epochs or "
            "learning rates, or evaluate fewer clients (evaluation.clients)"
        )
    small = [
        (client, split)
        for split, owned in (("training", clients.train), ("test", clients.test))
        for client in np.flatnonzero(sizes_of(owned) == 1).tolist()
    ]
    if small and norm_layers(federation.model):
        judge_by(federation.model, "batch")
        try:
            with torch.inference_mode():
                federation.model(torch.zeros(1, *federation.dataset.shape, device=federation.workers.device))
        except ValueError as error:
            client, split = small[0]
            raise UserError(
                f"{clients.name(client)} has a single {split} picture, which {name} cannot normalise by its batch: "
                "its last maps are one pixel large; set model.norm = group, or larger pictures, or fewer clients"
            ) from error
