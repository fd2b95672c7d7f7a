"""Dirichlet: every class is spread over the clients by shares from Dir(alpha); a small alpha makes clients differ."""

from __future__ import annotations

from functools import partial

import numpy as np

from fbkit.errors import UserError
from fbkit.train.data import Dataset
from fbkit.train.partition.shares import Deal, Indices, Shares, apportion, class_counts, refuse_lopsided_classes
from fbkit.train.recipe import ClientsRecipe

# Training pictures for every client. With fewer than ten a client's accuracy says little, but where a small alpha
# hardly ever gives ten to all, clients with two can still train.
ENOUGH = (10, 5, 2)
MOST_DRAWS = 3_000  # for each
MOST_NUMBERS = 50_000_000  # drawn in all: a few seconds


def plan(dataset: Dataset, recipe: ClientsRecipe, rng: np.random.Generator) -> Deal:
    """Draw each class's shares over the clients; the returned function deals pictures accordingly.

    For each class the shares of all clients come from Dir(alpha) (Yurochkin et al. 2019; Hsu, Qi and Brown 2019 draw
    each client's mix of classes instead). Training and test pictures follow the same shares, up to whole pictures. All
    are drawn again until every client has a test picture and ten training pictures, or as many as there are for each
    (Li et al. 2022); where that does not happen, five, then two.

    Raises:
        UserError: with ``clients.unbalanced``, for the sizes differ already; a class lacks test pictures; some client
            stayed without pictures in all draws.
    """
    if recipe.unbalanced:
        raise UserError(
            "clients.unbalanced and clients.partition = 'dirichlet' do not go together: its clients' sizes differ "
            "already; set clients.unbalanced = 0"
        )
    refuse_lopsided_classes(dataset)
    class_count = len(dataset.classes)
    train, test = (class_counts(pictures, class_count) for pictures in (dataset.train, dataset.test))
    draws = max(1, min(MOST_DRAWS, MOST_NUMBERS // (class_count * recipe.count)))
    for enough in ENOUGH:
        wanted = min(enough, len(dataset.train) // recipe.count)
        for _ in range(draws):
            shares = rng.dirichlet(np.full(recipe.count, recipe.alpha), size=class_count)
            smallest = (int(apportion(counts, shares).sum(axis=0).min()) for counts in (train, test))
            if next(smallest) >= wanted and next(smallest) >= 1:
                return partial(_deal, shares=shares, rng=rng)
    raise UserError(
        f"clients.alpha = {recipe.alpha:g} leaves some of clients.count = {recipe.count} clients with less than "
        f"{wanted} training pictures and a test picture in {draws} draws; choose a larger alpha or fewer clients"
    )


def _deal(labels: Indices, shares: Shares, rng: np.random.Generator) -> tuple[Indices, ...]:
    quotas = apportion(np.bincount(labels, minlength=len(shares)).astype(np.int64), shares)
    # Pictures in random order, then sorted by class: each class in random order, its first for client 0 and so on.
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    owners = np.repeat(np.tile(np.arange(shares.shape[1]), len(shares)), quotas.ravel())
    by_owner = order[np.argsort(owners, kind="stable")]
    return tuple(np.split(by_owner, np.cumsum(quotas.sum(axis=0))[:-1]))
