from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbkit.errors import UserError
from fbkit.train.data import Dataset, Pictures, load_dataset
from fbkit.train.federation import sample_cohort
from fbkit.train.partition import partition
from fbkit.train.recipe import ClientsRecipe, load_recipe


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("fashion-mnist-10k")


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([10, 20, 50, 100]), st.sampled_from([1, 2, 5, 10]), st.integers(0, 2**32))
def test_every_picture_has_one_owner_and_tests_follow_the_training_classes(count: int, shards: int, seed: int) -> None:
    data = load_dataset("fashion-mnist-10k")
    dealt = partition(data, ClientsRecipe(count=count, shards_per_client=shards), seed)
    for pictures, indices in ((data.train, dealt.train), (data.test, dealt.test)):
        owned = torch.cat(indices).numpy()
        assert np.array_equal(np.sort(owned), np.arange(len(pictures)))
    for train, test in zip(dealt.train, dealt.test, strict=True):
        classes = set(data.train.labels[train].tolist())
        assert len(classes) <= shards
        assert set(data.test.labels[test].tolist()) == classes


def test_the_same_seed_deals_the_same_and_another_seed_does_not(dataset: Dataset) -> None:
    recipe = ClientsRecipe(held_out=10)
    first, again, other = (partition(dataset, recipe, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first.train, again.train, strict=True))
    assert first.held_out == again.held_out
    assert not all(torch.equal(a, b) for a, b in zip(first.train, other.train, strict=True))


def test_held_out_clients_are_never_sampled(dataset: Dataset) -> None:
    recipe = load_recipe()
    dealt = partition(dataset, recipe.clients, recipe.seed)
    assert len(dealt.held_out) == 10
    assert sorted(dealt.held_out + dealt.training) == list(range(100))
    sampled = [sample_cohort(recipe, dealt.training, number) for number in range(1, 1001)]
    assert all(len(set(cohort)) == 10 for cohort in sampled)
    assert set().union(*sampled) == set(dealt.training)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (ClientsRecipe(count=7, shards_per_client=3), "cannot be dealt evenly over 10 classes"),
        (ClientsRecipe(count=10_000, shards_per_client=2), "has only 1000 training pictures"),
    ],
)
def test_shards_that_cannot_be_dealt_are_refused(dataset: Dataset, recipe: ClientsRecipe, said: str) -> None:
    with pytest.raises(UserError, match=said):
        partition(dataset, recipe, 0)


def test_a_test_set_that_is_too_small_is_told_apart_from_the_training_set() -> None:
    labels = torch.arange(10).repeat(4)
    few = Pictures(torch.zeros(40, 1, 4, 4, dtype=torch.uint8), labels)
    many = Pictures(torch.zeros(400, 1, 4, 4, dtype=torch.uint8), labels.repeat(10))
    data = Dataset(many, few, tuple("abcdefghij"), (0.0,), (1.0,), "none")
    with pytest.raises(UserError, match="has only 4 test pictures"):
        partition(data, ClientsRecipe(count=25, shards_per_client=2), 0)
