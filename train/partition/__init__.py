"""Who owns which pictures, and which clients never train. One file for each way of dealing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fbkit.errors import UserError
from fbkit.train.data import Dataset
from fbkit.train.partition import dirichlet, iid, shards
from fbkit.train.partition.shares import Deal
from fbkit.train.recipe import ClientsRecipe
from fbkit.train.seeds import Purpose, numpy_stream

# Checks that the recipe's clients can be had from the data, draws who gets how much of what, and returns the function
# that deals out pictures (given as their labels, int64 [N]) accordingly: the same way the training and test pictures.
_Plan = Callable[[Dataset, ClientsRecipe, np.random.Generator], Deal]
_PLANS: dict[str, _Plan] = {"shards": shards.plan, "dirichlet": dirichlet.plan, "iid": iid.plan}


@dataclass(frozen=True)
class Clients:
    """Each client's indices into the training and test pictures, and which clients train.

    ``train`` and ``test`` hold int64 tensors [number of the client's pictures], no index in two of them. ``training``
    and ``held_out`` are sorted client numbers and have none in common. ``names`` has one for each client; left out, it
    is client-000 and so on.
    """

    train: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    training: tuple[int, ...]
    held_out: tuple[int, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", tuple(f"client-{number:03d}" for number in range(len(self.train))))

    def chosen(self, which: str) -> tuple[int, ...]:
        """The client numbers that a recipe calls ``held-out``, ``training`` or ``all``."""
        return {"held-out": self.held_out, "training": self.training, "all": tuple(range(len(self.train)))}[which]


def partition(dataset: Dataset, recipe: ClientsRecipe, seed: int) -> Clients:
    """Deal the pictures to the clients as the recipe says, and set some clients apart.

    Every picture gets exactly one owner. Where the clients come with the data (``dataset.owners``), they keep what is
    theirs, and of the recipe only ``held_out`` counts.

    Raises:
        UserError: what the recipe asks for cannot be had from these pictures; the message names the key.
    """
    rng = numpy_stream(seed, Purpose.PARTITION)
    owners = dataset.owners
    count = recipe.count if owners is None else len(owners.names)
    if recipe.held_out >= count:
        raise UserError(f"clients.held_out = {recipe.held_out} leaves none of {count} clients to train")
    if owners is not None:
        return Clients(owners.train, owners.test, *_apart(count, recipe.held_out, rng), names=owners.names)
    for name, pictures in (("training", dataset.train), ("test", dataset.test)):
        if len(pictures) < count:
            raise UserError(
                f"clients.count = {count} is more than the {len(pictures)} {name} pictures; choose fewer clients"
            )
    deal = _PLANS[recipe.partition](dataset, recipe, rng)
    training, held_out = _apart(count, recipe.held_out, rng)
    train, test = (
        tuple(torch.from_numpy(owned) for owned in deal(pictures.labels.numpy()))
        for pictures in (dataset.train, dataset.test)
    )
    return Clients(train, test, training, held_out)


def _apart(count: int, held_out: int, rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of the clients that train, and of those that never do."""
    apart = np.sort(rng.permutation(count)[:held_out])
    return tuple(np.setdiff1d(np.arange(count), apart).tolist()), tuple(apart.tolist())
