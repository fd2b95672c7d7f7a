"""Independent and identically distributed: every client has a random part of all pictures."""

from __future__ import annotations

import numpy as np

from fbkit.errors import UserError
from fbkit.train.data import Dataset
from fbkit.train.partition.shares import Deal, Indices, apportion, linear_sizes, refuse_lopsided_classes
from fbkit.train.recipe import ClientsRecipe


def plan(dataset: Dataset, recipe: ClientsRecipe, rng: np.random.Generator) -> Deal:
    """Draw the clients' sizes; the returned function deals pictures accordingly.

    Sizes differ by one at most or, unbalanced, grow linearly from 1 - unbalanced to 1 + unbalanced times the mean,
    where it is drawn which client has which.

    Raises:
        UserError: a class lacks test pictures, or the smallest client would have no picture.
    """
    refuse_lopsided_classes(dataset)
    shares = linear_sizes(recipe.count, recipe.unbalanced) / recipe.count
    if recipe.unbalanced:
        shares = rng.permutation(shares)

    def sizes(pictures: int) -> Indices:
        return apportion(np.array([pictures]), shares[None]).ravel()

    for name, pictures in (("training", dataset.train), ("test", dataset.test)):
        if sizes(len(pictures)).min() < 1:
            raise UserError(
                f"clients.unbalanced = {recipe.unbalanced:g} leaves some of clients.count = {recipe.count} clients "
                f"without {name} pictures; choose a smaller value or fewer clients"
            )

    def deal(labels: Indices) -> tuple[Indices, ...]:
        return tuple(np.split(rng.permutation(len(labels)), np.cumsum(sizes(len(labels)))[:-1]))

    return deal
