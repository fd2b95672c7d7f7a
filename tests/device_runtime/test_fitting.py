"""Recipes: run against plain torch in float64, written down and read back, and refused where they are impossible."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fbkit.device_runtime.fitting import Absent, Recipe, default_recipe, fit, recipe_from_json
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import Defaults
from fbkit.device_runtime.shuffle import epoch_order
from fbkit.device_runtime.solvers.sgd import Schedule, SgdState, StepSettings, numpy_step
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError

Case = tuple[Head, Float, Labels]

EXACT = Recipe("exact", "keep", 0.3)
SGD = Recipe("sgd", "keep", 2.0, Schedule(epochs=7, lr=0.05, batch_size=16, seed=3, weight_decay=0.01, penalty=2.0))
RECIPES = [replace(recipe, absent=absent) for recipe in (EXACT, SGD) for absent in get_args(Absent)]


def made_up(count: int = 50, classes: int = 7, present: tuple[int, ...] = (1, 2, 5)) -> Case:
    """Features as after ReLU, of some of the classes."""
    rng = np.random.default_rng(0)
    head = Head(*(rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((classes, 30), classes)))
    labels = np.array(present)[np.arange(count) % len(present)]
    means = 0.5 * rng.normal(0, 1, (classes, 30))
    return head, np.maximum(0, means[labels] + rng.normal(0, 1, (count, 30))).astype(np.float32), labels


def parameters_of(head: Head) -> list[Tensor]:
    return [torch.from_numpy(array).double().requires_grad_() for array in (head.weight, head.bias)]


def objective(parameters: list[Tensor], case: Case, recipe: Recipe, rows: Labels | None = None) -> Tensor:
    """The mean over ``rows`` (all) of the cross-entropy, and the pull, a picture."""
    head, features, labels = case
    batch = np.arange(len(labels)) if rows is None else rows
    logits = torch.nn.functional.linear(torch.from_numpy(features[batch]).double(), *parameters)
    if recipe.absent == "mask":
        absent = np.setdiff1d(np.arange(len(head.bias)), labels)
        logits[:, absent] = -torch.inf
    pairs = zip(parameters, parameters_of(head), strict=True)
    distance = sum(((now - then.detach()) ** 2).sum() for now, then in pairs)
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels[batch]))
    return loss + recipe.penalty / len(labels) / 2 * distance


def above_minimum(head: Head, case: Case, recipe: Recipe) -> float:
    """How far the objective at ``head`` is above the least one, in nats a picture."""
    reached, least = (objective(parameters_of(each), case, recipe) for each in (head, by_torch(case, recipe)))
    return float((reached - least).detach())


def by_torch(case: Case, recipe: Recipe) -> Head:
    """The minimiser by L-BFGS, or the schedule by torch.optim.SGD."""
    parameters = parameters_of(case[0])
    schedule, absent = recipe.schedule, np.setdiff1d(np.arange(len(case[0].bias)), case[2])
    if schedule is None:
        solver = torch.optim.LBFGS(
            parameters, max_iter=2000, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            solver.zero_grad()
            loss = objective(parameters, case, recipe)
            loss.backward()
            return loss

        solver.step(closure)
    else:
        optimizer = torch.optim.SGD(
            parameters, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
        )
        for epoch in range(1, schedule.epochs + 1):
            order = epoch_order(len(case[2]), schedule.seed, epoch)
            for first in range(0, len(order), schedule.batch_size):
                optimizer.zero_grad()
                objective(parameters, case, recipe, order[first : first + schedule.batch_size]).backward()
                optimizer.step()
    weight, bias = (tensor.detach().numpy().astype(np.float32) for tensor in parameters)
    if recipe.absent == "mask":  # weight decay is not for rows that take no part
        weight[absent], bias[absent] = case[0].weight[absent], case[0].bias[absent]
    return Head(weight, bias)


def assert_equal(found: Head, expected: Head, atol: float = 0.0) -> None:
    np.testing.assert_allclose(found.weight, expected.weight, rtol=0, atol=atol)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=0, atol=atol)


@pytest.mark.parametrize("present", [(1, 2, 5), (4,), tuple(range(7))])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_heads_are_torchs(recipe: Recipe, present: tuple[int, ...]) -> None:
    case = made_up(present=present)
    before = Head(case[0].weight.copy(), case[0].bias.copy())
    found = fit(*case, recipe, gap=1e-11)
    assert found.finished
    assert_equal(found.head, by_torch(case, recipe), atol=2e-5)
    absent = np.setdiff1d(np.arange(7), present)
    assert np.flatnonzero(~found.mask).tolist() == (absent.tolist() if recipe.absent == "mask" else [])
    stayed = np.array_equal(found.head.weight[absent], before.weight[absent])
    assert stayed == (recipe.absent == "mask" or not len(absent))
    assert_equal(case[0], before)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_one_picture_will_do(recipe: Recipe) -> None:
    case = made_up(count=1)
    found = fit(*case, recipe)
    assert_equal(found.head, by_torch(case, recipe), atol=0.01)


@pytest.mark.parametrize("absent", get_args(Absent))
def test_the_gap_asked_for_is_reached_and_told(absent: Absent) -> None:
    case, recipe = made_up(), replace(EXACT, absent=absent)
    for gap in (1e-2, 1e-6):
        found = fit(*case, recipe, gap=gap)
        assert found.gap is not None
        assert above_minimum(found.head, case, recipe) - 1e-9 <= found.gap <= 1.1 * gap
    assert fit(*case, SGD).gap is None


def test_sgd_takes_its_steps_with_the_step_given() -> None:
    seen: list[list[bool] | None] = []

    def step(state: SgdState, features: Float, labels: Labels, settings: StepSettings) -> tuple[float, SgdState]:
        seen.append(None if settings.class_mask is None else settings.class_mask.tolist())
        return numpy_step(state, features, labels, settings)

    fit(*made_up(), replace(SGD, absent="mask"), step=step)
    assert seen == 28 * [[False, True, True, False, False, True, False]]
    seen.clear()
    fit(*made_up(present=tuple(range(7))), replace(SGD, absent="mask"), step=step)
    assert seen == 28 * [None]  # which a step graph without masks can do as well


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_listener_hears_of_whole_heads(recipe: Recipe) -> None:
    case = made_up()
    heard: list[tuple[int, Head, float]] = []
    found = fit(*case, recipe, listener=lambda *news: heard.append(news))
    assert [number for number, _, _ in heard] == list(range(1, len(heard) + 1))
    assert len(heard) >= 3
    assert_equal(heard[-1][1], found.head)
    assert heard[-1][2] < heard[0][2]
    assert_equal(fit(*case, recipe).head, found.head)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_the_deadline_is_kept_after_one_iteration(recipe: Recipe) -> None:
    case = made_up()
    heard: list[Head] = []
    found = fit(*case, recipe, deadline=time.monotonic() - 1, listener=lambda _number, head, _loss: heard.append(head))
    assert not found.finished
    assert len(heard) == 1
    assert_equal(found.head, heard[0])
    if recipe.solver == "exact":
        assert found.gap is not None
        assert 1e-6 < above_minimum(found.head, case, recipe) <= found.gap
    later = fit(*case, recipe, deadline=time.monotonic() + 1000)
    assert later.finished
    assert_equal(later.head, fit(*case, recipe).head)


def test_a_schedule_that_ends_with_the_deadline_is_finished() -> None:
    recipe = Recipe("sgd", "keep", 0.0, Schedule(epochs=1))
    assert fit(*made_up(), recipe, deadline=time.monotonic() - 1).finished


def test_a_rate_that_is_too_high_is_told() -> None:
    head, features, labels = made_up()
    with pytest.raises(UserError, match="ran away in epoch 1 at learning rate"):
        fit(head, features * np.float32(1e30), labels, Recipe("sgd", "keep", 0.0, Schedule(lr=1e20)))


def test_defaults_are_the_manifests() -> None:
    defaults = Defaults(epochs=3, lr=0.02, momentum=0.8, batch_size=40, penalty=7.0)
    assert default_recipe(defaults, "exact") == Recipe("exact", "keep", 7.0)
    schedule = Schedule(epochs=3, lr=0.02, momentum=0.8, batch_size=40)
    assert default_recipe(defaults, "sgd") == Recipe("sgd", "keep", 0.0, schedule)


@pytest.mark.parametrize(
    "arguments",
    [("sgd", "keep", 0.0), ("exact", "keep", 1.0, Schedule(penalty=1.0)), ("sgd", "mask", 1.0, Schedule(penalty=2.0))],
)
def test_a_recipe_that_contradicts_itself_cannot_be_made(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="sgd takes a schedule, with the recipe's penalty; exact takes none"):
        Recipe(*arguments)


above_0 = st.floats(0, 1e30, exclude_min=True)
absents = st.sampled_from(get_args(Absent))
schedules = st.builds(
    Schedule,
    epochs=st.integers(1, 100_000),
    lr=above_0,
    momentum=st.floats(0, 1, exclude_max=True),
    batch_size=st.integers(1, 1_000_000),
    seed=st.integers(0, 2**64 - 1),
    weight_decay=st.floats(0, 1e30),
    penalty=st.floats(0, 1e30),
)
recipes = st.builds(Recipe, st.just("exact"), absents, above_0) | st.builds(
    lambda absent, schedule: Recipe("sgd", absent, schedule.penalty, schedule), absents, schedules
)


@given(recipes)
def test_what_is_written_is_read(recipe: Recipe) -> None:
    text = json.dumps({"time": 1.5, "head": "0001", **recipe.to_json()}, allow_nan=False)
    assert recipe_from_json(json.loads(text), "journal") == recipe


def test_the_json_is_flat() -> None:
    assert EXACT.to_json() == {"solver": "exact", "absent": "keep", "penalty": 0.3}
    assert SGD.schedule is not None
    assert SGD.to_json() == {"solver": "sgd", "absent": "keep", **asdict(SGD.schedule)}
    assert recipe_from_json({"solver": "exact", "absent": "mask", "penalty": 2}, "x") == Recipe("exact", "mask", 2.0)


IMPOSSIBLE: list[tuple[Recipe, str, list[object]]] = [
    (EXACT, "solver", [None, "", "Exact", "lbfgs", 0, [], {}, ["exact"]]),
    (EXACT, "absent", [None, "drop", True, [[]]]),
    (EXACT, "penalty", [0, -1, 1.1e30, 10**400, float("nan"), float("inf"), "1", True, None]),
    (SGD, "penalty", [-1e-9, 1.1e30, float("nan"), False, [1]]),
    (SGD, "weight_decay", [-1e-9, 1.1e30, "0"]),
    (SGD, "lr", [0, 0.0, -0.1, 1.1e30, float("nan"), "0.1"]),
    (SGD, "momentum", [-0.1, 1, 1.0, float("nan")]),
    (SGD, "epochs", [0, 100_001, 5.0, True, "5"]),
    (SGD, "batch_size", [0, 1_000_001, 5.0]),
    (SGD, "seed", [-1, 2**64, 0.0]),
]


@pytest.mark.parametrize(("recipe", "key", "values"), IMPOSSIBLE)
def test_an_impossible_value_is_named(recipe: Recipe, key: str, values: list[object]) -> None:
    fine = recipe.to_json()
    assert recipe_from_json(fine, "journal.jsonl") == recipe
    for wrong in values:
        with pytest.raises(UserError, match=rf"^journal\.jsonl: {key} must be "):
            recipe_from_json(fine | {key: wrong}, "journal.jsonl")
    del fine[key]
    with pytest.raises(UserError, match=rf"^journal\.jsonl: {key} is missing$"):
        recipe_from_json(fine, "journal.jsonl")


junk = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
)
objects = st.dictionaries(st.sampled_from(sorted(SGD.to_json())), junk)


@given(junk | objects | st.builds(lambda spoiled: SGD.to_json() | spoiled, objects))
def test_whatever_comes_is_refused_or_is_a_recipe(value: Any) -> None:
    try:
        recipe = recipe_from_json(value, "journal")
    except UserError as error:
        assert str(error).startswith("journal: ")
    else:
        assert recipe.to_json().items() <= value.items()
