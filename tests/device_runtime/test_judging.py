"""Verdicts on heads: held-out losses against a plain loop, and what must and must not replace what."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbkit.device_runtime.fitting import Recipe, fit
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.judging import Rows, Verdict, judge
from fbkit.device_runtime.shuffle import stratified_folds
from fbkit.device_runtime.solvers.sgd import Schedule
from fbkit.device_runtime.tensors import Float, Labels

CLASSES, WIDTH = 6, 64
EXACT = Recipe("exact", "keep", 1.0)
MASKING = Recipe("exact", "mask", 1.0)
SGD = Recipe("sgd", "keep", 0.0, Schedule(lr=0.05))
FAR_BACK = Recipe("exact", "keep", 1e12)  # it stays at the shipped head
RUNAWAY = Recipe("sgd", "keep", 0.0, Schedule(lr=1e30, weight_decay=1.0))
FLOOR = 6 * math.log(10)

Data = tuple[Float, Labels]


class World:
    """Features as after ReLU; the shipped head learned from pictures that are somewhat different."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self._means = 0.4 * self.rng.normal(0, 1, (CLASSES, WIDTH))
        means = self._means + 0.4 * self.rng.normal(0, 1, (CLASSES, WIDTH))
        nothing = Head(np.zeros((CLASSES, WIDTH), np.float32), np.zeros(CLASSES, np.float32))
        labels = np.arange(300) % CLASSES
        self.shipped = fit(nothing, self._features(means[labels]), labels, Recipe("exact", "keep", 100.0)).head

    def _features(self, means: Any) -> Float:
        features: Float = np.maximum(0, means + self.rng.normal(0, 1, means.shape)).astype(np.float32)
        return features

    def pictures(self, count: int, classes: tuple[int, ...] = tuple(range(CLASSES))) -> Data:
        """As many of each class as can be, in any order."""
        labels = self.rng.permutation(np.resize(classes, count))
        return self._features(self._means[labels]), labels


def confident(head: Head) -> Head:
    return Head(head.weight * np.float32(6), head.bias * np.float32(6))


def first(count: int, total: int) -> Rows:
    return np.arange(total) < count


def joined(*batches: Data) -> Data:
    features, labels = zip(*batches, strict=True)
    return np.concatenate(features), np.concatenate(labels)


def folds_by_hand(labels: Labels, folds: int, seed: int) -> list[int]:
    """As docs/profile-format.md has it."""
    word = 2**64 - 1
    state, order = seed * 1000003 & word, list(range(len(labels)))
    for i in range(len(labels) - 1, 0, -1):
        state = (state + 0x9E3779B97F4A7C15) & word
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & word
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
        j = (z ^ (z >> 31)) % (i + 1)
        order[i], order[j] = order[j], order[i]
    assigned = [-1] * len(labels)
    for k, picture in enumerate(sorted(order, key=lambda picture: labels[picture])):
        assigned[picture] = k % folds
    return assigned


def probabilities_by_hand(head: Head, mask: Any, picture: Float) -> list[float]:
    logits = [math.fsum(a * b for a, b in zip(row, picture.tolist(), strict=True)) for row in head.weight.tolist()]
    powers = [math.exp(logit + bias) * kept for logit, bias, kept in zip(logits, head.bias.tolist(), mask, strict=True)]
    return [power / math.fsum(powers) for power in powers]


def judged_by_hand(
    shipped: Head, data: Data, recipes: dict[str, tuple[Recipe, Rows]], folds: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Log-losses, and percent right."""
    features, labels = data
    assigned = np.array(folds_by_hand(labels, folds, seed))
    totals = dict.fromkeys([*recipes, "shipped", "constant"], 0.0)
    right = dict.fromkeys([*recipes, "shipped"], 0)
    for place, (picture, label) in enumerate(zip(features, labels, strict=True)):
        others = assigned != assigned[place]
        heads: dict[str, tuple[Head, Any]] = {"shipped": (shipped, [1] * CLASSES)}
        for name, (recipe, rows) in recipes.items():
            own = others & rows
            fitted = fit(shipped, features[own], labels[own], recipe, gap=1e-3)
            heads[name] = fitted.head, fitted.mask.tolist()
        for name, (head, mask) in heads.items():
            probabilities = probabilities_by_hand(head, mask, picture)
            totals[name] -= math.log(max(probabilities[label], 1e-6))
            right[name] += probabilities.index(max(probabilities)) == label
            if name == "candidate":
                counts = {each: int((labels[others] == each).sum()) for each in set(labels.tolist())}
                share = (counts[int(label)] + 1) / (others.sum() + len(counts))
                totals["constant"] -= math.log(max(share * sum(probabilities[each] for each in counts), 1e-6))
    losses = {name: total / len(labels) for name, total in totals.items()}
    return losses, {name: 100 * count / len(labels) for name, count in right.items()}


@pytest.mark.parametrize(
    ("candidate", "present", "counts"),
    [
        (EXACT, MASKING, (9, 7, 6)),
        (SGD, EXACT, (3, 8, 4)),
        (MASKING, SGD, (2, 0, 10)),
        (EXACT, SGD, (14, 13, 13)),  # more than half as many as features: not in their span
    ],
)
def test_losses_and_what_is_right_are_a_plain_loops(
    candidate: Recipe, present: Recipe, counts: tuple[int, ...]
) -> None:
    world = World()
    features, labels = world.pictures(sum(counts), tuple(np.repeat((0, 3, 4), counts)))
    rows = world.rng.random(len(labels)) < 0.6
    for seed in (0, 5):
        verdict = judge(world.shipped, features, labels, candidate, (present, rows), seed=seed)
        assert verdict.folds == min(5, *(count for count in counts if count))
        recipes = {"candidate": (candidate, np.ones_like(rows)), "present": (present, rows)}
        losses, right = judged_by_hand(world.shipped, (features, labels), recipes, verdict.folds, seed)
        assert verdict.losses == pytest.approx(losses, rel=1e-6)
        assert verdict.correct == pytest.approx(right)
    assert set(judge(world.shipped, features, labels, candidate, None).losses) == {"shipped", "candidate", "constant"}


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(2, 5), st.integers(0, 2**64 - 1))
def test_folds_are_even_in_every_class_and_as_documented(labels: list[int], folds: int, seed: int) -> None:
    assigned = stratified_folds(np.array(labels), folds, seed)
    assert assigned.tolist() == folds_by_hand(np.array(labels), folds, seed)
    for group in (assigned, *(assigned[np.array(labels) == label] for label in set(labels))):
        sizes = np.bincount(group, minlength=folds)
        assert sizes.max() - sizes.min() <= 1


def test_folds_depend_on_the_seed() -> None:
    labels = np.arange(20) % 2
    assert len({tuple(stratified_folds(labels, 5, seed)) for seed in range(50)}) == 50


@pytest.mark.parametrize("candidate", [EXACT, MASKING, SGD], ids=str)
@pytest.mark.parametrize("sharpen", [confident, lambda head: head])
def test_random_labels_do_not_replace_the_shipped_head(candidate: Recipe, sharpen: Any, full: bool) -> None:
    """Nor do they keep a head in use that was fitted on such. By the losses alone they nearly always would."""
    accepted, lower, tried = 0, 0, 0
    for seed in range(40 if full else 4):
        world = World(seed)
        shipped = sharpen(world.shipped)
        for count, classes in [(10, 2), (20, 2), (20, 5), (60, 3), (200, 2), (200, 6)]:
            features, labels = world.pictures(count, tuple(range(classes)))
            labels = world.rng.permutation(labels)
            verdict = judge(shipped, features, labels, candidate, (candidate, first(count // 2, count)), seed=seed)
            assert verdict.verified
            accepted += verdict.chosen != "shipped"
            lower += min(verdict.losses["candidate"], verdict.losses["present"]) < verdict.losses["shipped"]
            tried += 1
    assert accepted <= 0.02 * tried
    assert lower > 0.6 * tried


@pytest.mark.parametrize("candidate", [EXACT, MASKING, SGD], ids=str)
@pytest.mark.parametrize("sharpen", [confident, lambda head: head])
def test_true_labels_do(candidate: Recipe, sharpen: Any) -> None:
    verdicts = []
    for seed in range(6):
        world = World(seed)
        for count, classes in [(12, (1, 4)), (30, (0, 2, 5)), (90, tuple(range(CLASSES)))]:
            verdicts.append(judge(sharpen(world.shipped), *world.pictures(count, classes), candidate, None))
    chosen = [verdict for verdict in verdicts if verdict.chosen == "candidate"]
    assert len(chosen) >= 0.8 * len(verdicts)
    for verdict in chosen:
        assert verdict.verified
        assert verdict.losses["candidate"] < min(verdict.losses["shipped"], verdict.losses["constant"])
        assert verdict.reason == "the new head does best on held-out pictures"


@pytest.mark.parametrize("recipe", [EXACT, MASKING, SGD], ids=str)
@pytest.mark.parametrize("mislabelled", [0, 4])
def test_a_second_better_batch_replaces_the_first_personal_head(recipe: Recipe, mislabelled: int) -> None:
    """The first batch is small, and part of it may be wrong."""
    world = World(2)
    features, labels = world.pictures(10, (0, 1, 2))
    labels[:mislabelled] = (labels[:mislabelled] + 1) % 3
    better = joined((features, labels), world.pictures(60, (0, 1, 2)))
    verdict = judge(world.shipped, *better, recipe, (recipe, first(10, 70)))
    assert (verdict.chosen, verdict.verified) == ("candidate", True)
    assert verdict.losses["candidate"] < verdict.losses["present"]


@pytest.mark.parametrize("absurd", [Recipe("sgd", "keep", 0.0, Schedule(lr=lr)) for lr in (50.0, 1e30)] + [RUNAWAY])
def test_a_worse_candidate_is_refused_and_the_present_head_stays(absurd: Recipe) -> None:
    world = World(3)
    data = world.pictures(40, (0, 1, 2))
    verdict = judge(world.shipped, *data, absurd, (EXACT, first(30, 40)))
    assert (verdict.chosen, verdict.verified) == ("present", True)
    assert verdict.losses["present"] < verdict.losses["shipped"]
    assert json.loads(json.dumps(verdict.losses, allow_nan=False)) == verdict.losses
    alone = judge(world.shipped, *data, absurd, None)
    assert (alone.chosen, alone.verified) == ("shipped", True)


def test_where_a_candidate_runs_away_its_probabilities_count_as_0() -> None:
    world = World(3)
    verdict = judge(world.shipped, *world.pictures(40), RUNAWAY, None)
    assert verdict.losses["candidate"] == pytest.approx(FLOOR)
    assert verdict.reason == "the new head does no better on held-out pictures than without looking at them"


def test_a_head_that_is_sure_of_its_mistakes_is_refused() -> None:
    """Mostly right, and wrong less often than the shipped head, but worth less than the shares of the classes."""
    world = World(2)
    features, labels = world.pictures(60, (0, 1))
    labels[:9] = 1 - labels[:9]
    verdict = judge(confident(confident(world.shipped)), features * 9, labels, Recipe("exact", "keep", 1e-4), None)
    assert verdict.losses["constant"] < verdict.losses["candidate"] < verdict.losses["shipped"]
    assert verdict.chosen == "shipped"


def test_a_present_head_that_is_worse_than_the_shipped_one_goes() -> None:
    """Its pictures are still there, and their labels are wrong; the new recipe dares nothing."""
    world = World(4)
    features, labels = world.pictures(60)
    labels[:20] = (labels[:20] + 1) % CLASSES
    verdict = judge(world.shipped, features, labels, FAR_BACK, (EXACT, first(20, 60)))
    assert verdict.losses["shipped"] < verdict.losses["present"]
    assert (verdict.chosen, verdict.verified) == ("shipped", True)


def test_ties_go_to_the_shipped_head_then_to_the_present_one() -> None:
    world = World(5)
    data = world.pictures(40)
    every, none = np.ones(40, np.bool_), np.zeros(40, np.bool_)

    same = judge(world.shipped, *data, EXACT, (EXACT, every))
    assert same.losses["candidate"] == same.losses["present"] < same.losses["shipped"]
    assert same.chosen == "present"
    assert same.reason == "the new head does no better on held-out pictures than the present head"

    stayed = judge(world.shipped, *data, FAR_BACK, None)
    assert stayed.losses["candidate"] == stayed.losses["shipped"] < stayed.losses["constant"]
    assert stayed.chosen == "shipped"
    assert stayed.reason == "the new head does no better on held-out pictures than the shipped head"

    for present in ((FAR_BACK, every), (EXACT, none)):
        of_all = judge(world.shipped, *data, FAR_BACK, present)
        assert of_all.losses["candidate"] == of_all.losses["present"] == of_all.losses["shipped"]
        assert of_all.chosen == "shipped"


def test_a_present_head_without_pictures_in_other_folds_counts_as_the_shipped_one() -> None:
    """Its only picture is held out once; in the other folds it learns from it."""
    world = World(6)
    data = world.pictures(40)
    only = first(1, 40)
    verdict = judge(world.shipped, *data, EXACT, (EXACT, only))
    assigned = np.array(folds_by_hand(data[1], 5, 0))
    held = assigned == assigned[0]
    head = fit(world.shipped, data[0][only], data[1][only], EXACT, gap=1e-3).head
    losses = [
        each.loss(data[0][rows], data[1][rows]) * rows.mean() for each, rows in ((world.shipped, held), (head, ~held))
    ]
    assert verdict.losses["present"] == pytest.approx(sum(losses), rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, 1] * 4 + [0], "there are fewer than 10 pictures to judge by"),
        ([0], "there are fewer than 10 pictures to judge by"),
        ([0, 1] * 20 + [2], "a class has only one picture to judge by"),
    ],
)
def test_too_few_pictures_are_not_judged(labels: list[int], reason: str) -> None:
    world = World()
    features, _ = world.pictures(len(labels))
    verdict = judge(world.shipped, features, np.array(labels), EXACT, (EXACT, first(1, len(labels))))
    assert verdict == Verdict("candidate", False, reason, {}, 0)


@pytest.mark.parametrize(("counts", "folds"), [((5, 5), 5), ((2, 8), 2), ((20, 3, 4), 3), ((10,), 5)])
def test_there_are_as_many_folds_as_the_rarest_class_has_pictures(counts: tuple[int, ...], folds: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    world = World()
    features, _ = world.pictures(len(labels))
    verdict = judge(world.shipped, features, labels, EXACT, None)
    assert (verdict.verified, verdict.folds) == (True, folds)


def test_a_class_that_the_present_head_leaves_out_costs_the_floor() -> None:
    world = World(7)
    data = joined(world.pictures(20, (0, 1)), world.pictures(20, (2,)))
    verdict = judge(world.shipped, *data, MASKING, (MASKING, first(20, 40)))
    assert FLOOR / 2 <= verdict.losses["present"] < FLOOR / 2 + 1
    assert verdict.chosen == "candidate"


def test_a_single_class_can_be_learned() -> None:
    """There is no choice to make at random."""
    world = World(8)
    for recipe in (EXACT, SGD):
        verdict = judge(world.shipped, *world.pictures(20, (3,)), recipe, None)
        assert (verdict.chosen, verdict.verified) == ("candidate", True)
        assert verdict.losses["candidate"] == pytest.approx(verdict.losses["constant"])


def test_a_class_that_the_device_added_can_be_learned() -> None:
    world = World(9)
    grown = Head(world.shipped.weight.copy(), world.shipped.bias.copy())
    grown.weight[5], grown.bias[5] = 0, 0
    verdict = judge(grown, *world.pictures(40, (0, 5)), EXACT, (EXACT, first(10, 40)))
    assert (verdict.chosen, verdict.verified) == ("candidate", True)


@pytest.mark.parametrize("recipe", [EXACT, Recipe("sgd", "keep", 0.0, Schedule(epochs=1)), FAR_BACK], ids=str)
def test_after_the_deadline_nothing_is_judged(recipe: Recipe) -> None:
    world = World()
    data = world.pictures(40)
    verdict = judge(world.shipped, *data, recipe, None, deadline=time.monotonic() - 1)
    assert verdict == Verdict("shipped", False, "the time was up before the head was judged", {}, 0)
    assert judge(world.shipped, *data, recipe, None, deadline=time.monotonic() + 1000).verified


def test_the_deadline_ends_a_fit_in_the_middle() -> None:
    world = World()
    endless = Recipe("sgd", "keep", 0.0, Schedule(epochs=100_000, lr=1e-6))
    begun = time.monotonic()
    verdict = judge(world.shipped, *world.pictures(40), endless, None, deadline=begun + 0.05)
    assert not verdict.verified
    assert time.monotonic() - begun < 5
