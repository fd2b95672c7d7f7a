"""The paper's shards: a client has pictures of few classes (FedBABU, Oh, Kim and Yun 2022, section 5.1)."""

from __future__ import annotations

import numpy as np

from fbkit.errors import UserError
from fbkit.train.data import Dataset
from fbkit.train.partition.shares import Deal, Indices, class_counts, linear_sizes
from fbkit.train.recipe import ClientsRecipe


def plan(dataset: Dataset, recipe: ClientsRecipe, rng: np.random.Generator) -> Deal:
    """Draw the classes of every client; the returned function deals pictures accordingly.

    Every class is cut into equally many shards. A client gets ``shards_per_client`` of them and test shards of the
    same classes, so that it is tested on what it trains for (a class can come twice).

    Unbalanced, as in the reference code, the shards go to pairs of clients and each of a pair takes its part of every
    shard. The sizes grow linearly from 1 - unbalanced to 1 + unbalanced times the mean, smallest and largest make a
    pair, second smallest and second largest another, and so on: all pairs have equally much. Which client has which
    size is drawn. Whole pictures differ from that by rounding, and each of a pair gets at least one of every shard.

    Raises:
        UserError: the shards cannot be dealt evenly, or would be empty.
    """
    count, class_count, paired = recipe.count, len(dataset.classes), recipe.unbalanced > 0
    if paired and count % 2:
        raise UserError(
            f"clients.unbalanced makes pairs of clients that share their classes, and clients.count = {count} is odd"
        )
    asked = count * recipe.shards_per_client
    takers = count // 2 if paired else count
    shard_count = takers * recipe.shards_per_client
    if shard_count % class_count:
        kind = "shards for pairs of clients (clients.unbalanced)" if paired else "shards"
        raise UserError(
            f"clients.count x clients.shards_per_client = {asked} makes {shard_count} {kind}, which cannot be dealt "
            f"evenly over {class_count} classes; choose numbers whose product is a multiple of "
            f"{class_count * 2 if paired else class_count}"
        )
    shards_per_class = shard_count // class_count
    for name, pictures in (("training", dataset.train), ("test", dataset.test)):
        numbers = class_counts(pictures, class_count)
        fewest = int(numbers.argmin())
        if numbers[fewest] < asked // class_count:
            raise UserError(
                f"clients.count x clients.shards_per_client = {asked} asks for {asked // class_count} shards of "
                f"every class, but class {dataset.classes[fewest]!r} has only {numbers[fewest]} {name} pictures; "
                "choose fewer clients or shards"
            )

    classes = rng.permutation(np.repeat(np.arange(class_count), shards_per_class)).reshape(takers, -1)
    if not paired:
        return lambda labels: _deal(labels, classes, shards_per_class, rng)
    ranks = rng.permutation(count)
    smaller = linear_sizes(count, recipe.unbalanced)[:takers] / 2

    def deal_to_pairs(labels: Indices) -> tuple[Indices, ...]:
        pairs = _deal_shards(labels, classes, shards_per_class, rng)
        halves = [_split_pair(shards, share) for shards, share in zip(pairs, smaller.tolist(), strict=True)]
        by_rank = [small for small, _ in halves] + [large for _, large in reversed(halves)]
        return tuple(by_rank[rank] for rank in ranks.tolist())

    return deal_to_pairs


def _deal(labels: Indices, classes: Indices, shards_per_class: int, rng: np.random.Generator) -> tuple[Indices, ...]:
    return tuple(np.concatenate(shards) for shards in _deal_shards(labels, classes, shards_per_class, rng))


def _deal_shards(
    labels: Indices, classes: Indices, shards_per_class: int, rng: np.random.Generator
) -> list[list[Indices]]:
    """Give taker k one shard for each entry of ``classes[k]``, every shard to one taker."""
    shards: dict[int, list[Indices]] = {
        label: np.array_split(rng.permutation(np.flatnonzero(labels == label)), shards_per_class)
        for label in np.unique(classes).tolist()
    }
    return [[shards[label].pop() for label in wanted] for wanted in classes.tolist()]


def _split_pair(shards: list[Indices], share: float) -> tuple[Indices, Indices]:
    """Cut each of a pair's shards so that the first client gets ``share`` of their sum and both some of each."""
    lengths = np.array([len(shard) for shard in shards])
    cuts = np.diff(np.rint(share * np.cumsum(lengths)), prepend=0).astype(np.int64)  # rounding does not add up
    cuts = np.clip(cuts, 1, lengths - 1)
    parts = [np.split(shard, [cut]) for shard, cut in zip(shards, cuts.tolist(), strict=True)]
    return np.concatenate([first for first, _ in parts]), np.concatenate([second for _, second in parts])
