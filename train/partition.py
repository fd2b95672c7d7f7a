"""Who owns which pictures: the paper's shards, and the clients that never train."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fbkit.errors import UserError
from fbkit.train.data import Dataset
from fbkit.train.recipe import ClientsRecipe
from fbkit.train.seeds import Purpose, numpy_stream

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clients:
    """Each client's indices into the training and test pictures, and which clients train.

    ``training`` and ``held_out`` are sorted client numbers and have none in common.
    """

    train: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    training: tuple[int, ...]
    held_out: tuple[int, ...]

    def chosen(self, which: str) -> tuple[int, ...]:
        """The client numbers that a recipe calls ``held-out``, ``training`` or ``all``."""
        return {"held-out": self.held_out, "training": self.training, "all": tuple(range(len(self.train)))}[which]


def partition(dataset: Dataset, recipe: ClientsRecipe, seed: int) -> Clients:
    """Deal the pictures to the clients by the paper's shards and set some clients apart.

    Every class is cut into equally many shards. A client gets ``shards_per_client`` of them and test shards of the
    same classes, so that it is tested on what it trains for (FedBABU, section 5.1; a class can come twice).

    Raises:
        UserError: the shards cannot be dealt evenly, or would be empty.
    """
    class_count = len(dataset.classes)
    shard_count = recipe.count * recipe.shards_per_client
    if shard_count % class_count:
        raise UserError(
            f"clients.count x clients.shards_per_client = {shard_count} shards cannot be dealt evenly over "
            f"{class_count} classes; choose numbers whose product is a multiple of {class_count}"
        )
    shards_per_class = shard_count // class_count
    for name, pictures in (("training", dataset.train), ("test", dataset.test)):
        fewest = int(torch.bincount(pictures.labels, minlength=class_count).min())
        if fewest < shards_per_class:
            raise UserError(
                f"clients.count x clients.shards_per_client = {shard_count} asks for {shards_per_class} shards of "
                f"every class, but one has only {fewest} {name} pictures; choose fewer clients or shards"
            )

    rng = numpy_stream(seed, Purpose.PARTITION)
    classes = rng.permutation(np.repeat(np.arange(class_count), shards_per_class)).reshape(recipe.count, -1)
    held_out = np.sort(rng.permutation(recipe.count)[: recipe.held_out])
    training = np.setdiff1d(np.arange(recipe.count), held_out)
    return Clients(
        train=_deal(dataset.train.labels, classes, shards_per_class, rng),
        test=_deal(dataset.test.labels, classes, shards_per_class, rng),
        training=tuple(training.tolist()),
        held_out=tuple(held_out.tolist()),
    )


def _deal(
    labels: Tensor, classes: npt.NDArray[np.int64], shards_per_class: int, rng: np.random.Generator
) -> tuple[Tensor, ...]:
    """Give client k one shard for each entry of ``classes[k]``, every shard to one client."""
    shards: dict[int, list[Indices]] = {
        label: np.array_split(rng.permutation(np.flatnonzero(labels.numpy() == label)), shards_per_class)
        for label in np.unique(classes).tolist()
    }
    return tuple(
        torch.from_numpy(np.concatenate([shards[label].pop() for label in wanted])) for wanted in classes.tolist()
    )
