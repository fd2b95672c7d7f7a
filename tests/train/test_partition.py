from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbkit.errors import UserError
from fbkit.train.client_table import tabulate
from fbkit.train.cohorts import sample_cohort
from fbkit.train.data import Dataset, Owners, Pictures
from fbkit.train.partition import Clients, partition
from fbkit.train.recipe import ClientsRecipe, load_recipe


def labelled(train: list[int], test: list[int]) -> Dataset:
    """Blank pictures, so many of each class, in mixed order."""
    generator = torch.Generator().manual_seed(0)
    pictures = []
    for numbers in (train, test):
        labels = torch.repeat_interleave(torch.arange(len(numbers)), torch.tensor(numbers))
        labels = labels[torch.randperm(len(labels), generator=generator)]
        pictures.append(Pictures(torch.zeros(len(labels), 1, 1, 1, dtype=torch.uint8), labels))
    names = tuple(f"c{number}" for number in range(len(train)))
    return Dataset(pictures[0], pictures[1], names, (0.0,), (1.0,), "none")


EVEN = labelled([1000] * 10, [200] * 10)
UNEVEN = labelled([900, 431, 300, 777, 120, 350, 601], [90, 80, 75, 200, 64, 70, 333])  # multiples of nothing

WAYS = st.one_of(
    st.builds(ClientsRecipe, count=st.sampled_from([7, 14, 21]), shards_per_client=st.integers(1, 5)),
    st.builds(
        ClientsRecipe,
        count=st.sampled_from([14, 28]),
        shards_per_client=st.integers(1, 3),
        unbalanced=st.floats(0.05, 0.95),
    ),
    st.builds(
        ClientsRecipe,
        count=st.integers(2, 30),
        partition=st.just("dirichlet"),
        alpha=st.sampled_from([0.5, 1.0, 100.0]),
    ),
    st.builds(
        ClientsRecipe, count=st.integers(2, 60), partition=st.just("iid"), unbalanced=st.sampled_from([0.0, 0.3, 0.8])
    ),
)


def assert_every_picture_has_one_owner(data: Dataset, dealt: Clients) -> None:
    for pictures, indices in ((data.train, dealt.train), (data.test, dealt.test)):
        assert all(owned.dtype == torch.int64 and len(owned) > 0 for owned in indices)
        assert np.array_equal(np.sort(torch.cat([*indices]).numpy()), np.arange(len(pictures)))


def sizes_of(indices: Sequence[torch.Tensor]) -> list[int]:
    return [len(owned) for owned in indices]


@settings(max_examples=60, deadline=None)
@given(WAYS, st.integers(0, 2**32), st.integers(0, 1))
def test_every_picture_has_one_owner_and_a_seed_always_deals_the_same(
    recipe: ClientsRecipe, seed: int, held_out: int
) -> None:
    recipe = recipe.model_copy(update={"held_out": held_out})
    first, again = (partition(UNEVEN, recipe, seed) for _ in range(2))
    assert_every_picture_has_one_owner(UNEVEN, first)
    assert len(first.held_out) == held_out
    assert sorted([*first.held_out, *first.training]) == list(range(recipe.count))
    pairs = [*zip(first.train, again.train, strict=True), *zip(first.test, again.test, strict=True)]
    assert all(torch.equal(a, b) for a, b in pairs)
    assert (first.training, first.held_out) == (again.training, again.held_out)
    assert first.name(0) == "client-000"


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([20, 40, 100]), st.sampled_from([1, 2, 5, 10]), st.sampled_from([0.0, 0.5]), st.integers(0, 99))
def test_tests_follow_the_training_classes(count: int, shards: int, unbalanced: float, seed: int) -> None:
    recipe = ClientsRecipe(count=count, shards_per_client=shards, unbalanced=unbalanced)
    dealt = partition(EVEN, recipe, seed)
    for train, test in zip(dealt.train, dealt.test, strict=True):
        classes = set(EVEN.train.labels[train].tolist())
        assert len(classes) <= shards
        assert set(EVEN.test.labels[test].tolist()) == classes


@pytest.mark.parametrize(
    ("recipe", "seed", "digest"),
    [
        (ClientsRecipe(), 0, "440bc02070ce5aeb"),
        (ClientsRecipe(count=50, shards_per_client=5, held_out=7), 0, "31105331baa449f8"),
        (ClientsRecipe(count=100, shards_per_client=10, held_out=10), 3, "0330cfced41e5e8e"),
    ],
)
def test_shards_are_those_of_the_first_version(recipe: ClientsRecipe, seed: int, digest: str) -> None:
    """A run folder keeps its recipe and seed, not its partition: what they mean must never change."""
    dealt = partition(EVEN, recipe, seed)
    text = hashlib.sha256(repr((tuple(dealt.training), tuple(dealt.held_out))).encode())
    for owned in [*dealt.train, *dealt.test]:
        text.update(repr(owned.tolist()).encode())
    assert text.hexdigest()[:16] == digest


def test_another_seed_deals_otherwise() -> None:
    first, other = (partition(EVEN, ClientsRecipe(held_out=10), seed) for seed in (0, 1))
    assert not all(torch.equal(a, b) for a, b in zip(first.train, other.train, strict=True))
    assert first.held_out != other.held_out


@pytest.mark.parametrize(("way", "shards"), [("shards", 2), ("shards", 5), ("iid", 2)])
def test_unbalanced_sizes_grow_linearly_and_are_not_in_order(way: str, shards: int) -> None:
    values = {"count": 100, "partition": way, "unbalanced": 0.6, "shards_per_client": shards}
    recipe = ClientsRecipe.model_validate(values)
    dealt = partition(EVEN, recipe, 0)
    for indices, mean in ((dealt.train, 100), (dealt.test, 20)):
        sizes = sizes_of(indices)
        assert sizes != sorted(sizes)
        assert np.abs(np.sort(sizes) - mean * np.linspace(0.4, 1.6, 100)).max() <= 1
    # The same clients are big in training and in test.
    assert np.corrcoef(sizes_of(dealt.train), sizes_of(dealt.test))[0, 1] > 0.99


def test_the_clients_of_an_unbalanced_pair_share_their_classes_and_two_means() -> None:
    table = tabulate(EVEN, partition(EVEN, ClientsRecipe(count=20, shards_per_client=3, unbalanced=0.5), 0))
    by_size = np.argsort(table.train.sum(axis=1))
    for small, large in zip(by_size[:10], by_size[:9:-1], strict=True):
        both = table.train[small] + table.train[large]
        assert abs(both.sum() - 1000) <= 3  # classes cut into three shards have 333 or 334 pictures
        assert np.array_equal(table.train[small] > 0, table.train[large] > 0)
        share = table.train[small].sum() / both.sum()
        assert np.abs(table.train[small] - share * both).max() <= 1  # of each class the same part


def test_a_small_pair_keeps_some_of_each_class_however_unbalanced() -> None:
    data = labelled([20] * 10, [4] * 10)
    dealt = partition(data, ClientsRecipe(count=20, unbalanced=0.99), 0)
    assert_every_picture_has_one_owner(data, dealt)
    assert min(sizes_of(dealt.test)) == 2


def test_iid_sizes_differ_by_one_at_most() -> None:
    dealt = partition(UNEVEN, ClientsRecipe(count=13, partition="iid"), 0)
    for indices in (dealt.train, dealt.test):
        assert max(sizes_of(indices)) - min(sizes_of(indices)) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_dirichlet_is_more_uneven_for_a_small_alpha(seed: int) -> None:
    def unevenness(alpha: float) -> float:
        recipe = ClientsRecipe(count=20, partition="dirichlet", alpha=alpha)
        return tabulate(EVEN, partition(EVEN, recipe, seed)).unevenness()

    assert unevenness(0.1) > 0.5 > unevenness(1.0) > 0.2 > unevenness(100.0)


def test_dirichlet_gives_each_enough_and_the_test_pictures_in_the_same_proportions() -> None:
    for seed in range(5):
        dealt = partition(EVEN, ClientsRecipe(count=50, partition="dirichlet", alpha=0.12), seed)
        table = tabulate(EVEN, dealt)
        assert table.train.sum(axis=1).min() >= 10
        assert table.test.sum(axis=1).min() >= 1
        assert np.abs(table.test - table.train / 5).max() <= 1.2  # each rounded by less than one


def test_dirichlet_shares_have_the_moments_of_the_distribution() -> None:
    alpha, count = 2.0, 10
    recipe = ClientsRecipe(count=count, partition="dirichlet", alpha=alpha)
    shares = np.concatenate([tabulate(EVEN, partition(EVEN, recipe, seed)).train / 1000 for seed in range(200)])
    assert shares.mean() == pytest.approx(1 / count)
    assert shares.var() == pytest.approx((1 / count) * (1 - 1 / count) / (count * alpha + 1), rel=0.1)


def test_clients_that_come_with_the_data_keep_what_is_theirs() -> None:
    train, test = (tuple(torch.arange(len(pictures)).split(1000)) for pictures in (EVEN.train, EVEN.test))
    owners = Owners(tuple("abcdefghij"), train, test + test[:1] * 8)
    data = replace(EVEN, owners=owners)
    dealt = partition(data, ClientsRecipe(count=7, shards_per_client=3, held_out=4), 0)
    assert dealt.names == owners.names
    assert dealt.train == owners.train
    assert dealt.test == owners.test
    assert len(dealt.held_out) == 4
    assert sorted([*dealt.held_out, *dealt.training]) == list(range(10))
    held_out = {tuple(partition(data, ClientsRecipe(held_out=4), seed).held_out) for seed in range(5)}
    assert len(held_out) > 1
    with pytest.raises(UserError, match=re.escape("clients.held_out = 10 leaves none of 10 clients to train")):
        partition(data, ClientsRecipe(held_out=10), 0)


def test_many_clients_and_62_uneven_classes() -> None:
    train = np.random.default_rng(0).integers(200, 4000, 62).tolist()
    data = labelled(train, [number // 6 for number in train])
    for recipe in (
        ClientsRecipe(count=3000, partition="iid"),
        ClientsRecipe(count=300, partition="dirichlet", alpha=0.3),
        ClientsRecipe(count=310, shards_per_client=2, unbalanced=0.5),
    ):
        assert_every_picture_has_one_owner(data, partition(data, recipe, 0))


def test_held_out_clients_are_never_sampled() -> None:
    recipe = load_recipe()
    dealt = partition(EVEN, recipe.clients, recipe.seed)
    assert len(dealt.held_out) == 10
    sampled = [sample_cohort(recipe, dealt.training, number) for number in range(1, 1001)]
    assert all(len(set(cohort)) == 10 for cohort in sampled)
    assert set().union(*sampled) == set(dealt.training)


FEW_TESTS = labelled([40] * 10, [4] * 10)
NO_TESTS = labelled([40, 40], [40, 0])


@pytest.mark.parametrize(
    ("data", "values", "said"),
    [
        (EVEN, {"count": 7, "shards_per_client": 3}, "= 21 makes 21 shards, which cannot be dealt evenly over 10"),
        (EVEN, {"count": 2000, "shards_per_client": 6}, "class 'c0' has only 1000 training pictures"),
        (FEW_TESTS, {"count": 25}, "asks for 5 shards of every class, but class 'c0' has only 4 test pictures"),
        (NO_TESTS, {"count": 2}, "class 'c1' has only 0 test pictures"),
        (NO_TESTS, {"count": 2, "partition": "iid"}, "class 'c1' has 40 training pictures and 0 test pictures"),
        (NO_TESTS, {"count": 2, "partition": "dirichlet"}, "class 'c1' has 40 training pictures and 0 test pictures"),
        (FEW_TESTS, {"count": 41, "partition": "iid"}, "clients.count = 41 is more than the 40 test pictures"),
        (FEW_TESTS, {"count": 401, "partition": "dirichlet"}, "is more than the 400 training pictures"),
        (EVEN, {"count": 5, "unbalanced": 0.5, "shards_per_client": 4}, "clients.count = 5 is odd"),
        (EVEN, {"count": 10, "unbalanced": 0.5, "shards_per_client": 1}, "a multiple of 20"),
        (FEW_TESTS, {"count": 40, "partition": "iid", "unbalanced": 0.9}, "clients.unbalanced = 0.9 leaves"),
        (EVEN, {"partition": "dirichlet", "unbalanced": 0.1}, "clients.unbalanced and clients.partition"),
        (EVEN, {"partition": "dirichlet", "alpha": 0.001}, "clients.alpha = 0.001 leaves some of clients.count = 100"),
        (EVEN, {"count": 10, "held_out": 10}, "clients.held_out = 10 leaves none of 10 clients to train"),
    ],
)
def test_what_cannot_be_dealt_is_refused_by_name(data: Dataset, values: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        partition(data, ClientsRecipe.model_validate(values), 0)
