"""Who owns which pictures, and which clients never train. One file for each way of dealing."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fbkit.errors import UserError
from fbkit.train.data import Dataset
from fbkit.train.owned import Owned
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

    ``train`` and ``test`` hold int64 tensors [number of pictures]. ``training`` and ``held_out`` are sorted
    client numbers and have none in common. ``names`` has one for each client, or is empty where they have none.
    """

    train: Sequence[Tensor]
    test: Sequence[Tensor]
    training: Sequence[int]
    held_out: Sequence[int]
    names: tuple[str, ...] = ()

    def name(self, client: int) -> str:
        """A client's name, for people."""
        return self.names[client] if self.names else f"client-{client:03d}"

    def chosen(self, which: str) -> Sequence[int]:
        """The client numbers that a recipe calls ``held-out``, ``training`` or ``all``."""
        return {"held-out": self.held_out, "training": self.training, "all": range(len(self.train))}[which]


def partition(dataset: Dataset, recipe: ClientsRecipe, seed: int) -> Clients:
    """Deal the pictures to the clients as the recipe says, and set some clients apart.

    Every picture gets exactly one owner. Where the clients come with the data (``dataset.owners``), they keep what is
    theirs (which may be other clients' too), and of the recipe only ``held_out`` counts.

    Raises:
        UserError: what the recipe asks for cannot be had from these pictures; the message names the key.
    """
    rng = numpy_stream(seed, Purpose.PARTITION)
    owners = dataset.owners
    count = recipe.count if owners is None else len(owners.train)
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
    train, test = (Owned.joined(deal(pictures.labels.numpy())) for pictures in (dataset.train, dataset.test))
    return Clients(train, test, training, held_out)


def _apart(count: int, held_out: int, rng: np.random.Generator) -> tuple[Sequence[int], Sequence[int]]:
    """The numbers of the clients that train, and of those that never do."""
    apart = np.zeros(count, dtype=np.bool_)
    apart[rng.permutation(count)[:held_out]] = True
    training, never = (array("q", np.flatnonzero(chosen).tobytes()) for chosen in (~apart, apart))
    return training, never
