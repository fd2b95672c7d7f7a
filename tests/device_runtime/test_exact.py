"""The convex solver against torch's L-BFGS in float64, and what must hold for any pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.solvers.exact import fit_exact
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError

Case = tuple[Head, Float, Labels]


def made_up(count: int, features: int, classes: int, seed: int = 0, kinds: int = 0, apart: float = 0.5) -> Case:
    """A random head, and features that are never negative, as after ReLU; of ``kinds`` classes, which overlap."""
    rng = np.random.default_rng(seed)
    head = Head(*(rng.uniform(-1, 1, shape).astype(np.float32) for shape in ((classes, features), classes)))
    labels = rng.integers(0, kinds or classes, count)
    means = apart * rng.normal(0, 1, (classes, features))
    return head, np.maximum(0, means[labels] + rng.normal(0, 1, (count, features))).astype(np.float32), labels


def objective(parameters: tuple[Tensor, Tensor], case: Case, penalty: float) -> Tensor:
    """By its definition, float64."""
    head, features, labels = case
    weight, bias = parameters
    logits = torch.nn.functional.linear(torch.from_numpy(features).double(), weight, bias)
    anchor = torch.from_numpy(head.weight), torch.from_numpy(head.bias)
    distance = sum(((now - then.double()) ** 2).sum() for now, then in zip(parameters, anchor, strict=True))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels), reduction="sum")
    return loss + penalty / 2 * distance


def as_parameters(head: Head) -> tuple[Tensor, Tensor]:
    weight, bias = (torch.from_numpy(array).double().requires_grad_() for array in (head.weight, head.bias))
    return weight, bias


def value(head: Head, case: Case, penalty: float) -> float:
    return float(objective(as_parameters(head), case, penalty).detach())


def squared_gradient(head: Head, case: Case, penalty: float) -> float:
    parameters = as_parameters(head)
    gradients = torch.autograd.grad(objective(parameters, case, penalty), parameters)
    return sum(float((gradient**2).sum()) for gradient in gradients)


def minimum(case: Case, penalty: float) -> float:
    parameters = as_parameters(case[0])
    solver = torch.optim.LBFGS(
        parameters,
        max_iter=3000,
        tolerance_grad=1e-9,
        tolerance_change=0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        loss = objective(parameters, case, penalty)
        loss.backward()
        return loss

    solver.step(closure)
    return float(objective(parameters, case, penalty).detach())


def distance(one: Head, other: Head) -> float:
    parts = ((one.weight, other.weight), (one.bias, other.bias))
    return float(np.sqrt(sum(np.square(a.astype(np.float64) - b).sum() for a, b in parts)))


@pytest.mark.parametrize("penalty", [30.0, 1.0, 0.03])
@pytest.mark.parametrize(
    ("count", "features", "classes", "kinds"), [(200, 300, 10, 10), (150, 20, 5, 3), (12, 64, 4, 2), (1, 16, 3, 1)]
)
def test_the_objective_is_the_least_one(count: int, features: int, classes: int, kinds: int, penalty: float) -> None:
    """More pictures than features and fewer, classes that overlap, classes that no picture has."""
    case = made_up(count, features, classes, kinds=kinds)
    found = fit_exact(*case, penalty, gap=1e-7)
    assert found.gap <= 1.1e-7  # the tenth for rounding to float32
    least, reached = minimum(case, penalty), value(found.head, case, penalty)
    assert reached == pytest.approx(least, rel=1e-6, abs=1e-6 * count)
    assert reached - least <= (found.gap + 1e-12) * count
    assert reached < value(case[0], case, penalty) - 0.01  # there was something to do


sizes = st.tuples(st.integers(1, 40), st.integers(1, 30), st.integers(2, 6))
seeds = st.integers(0, 10**6)
penalties = st.floats(-0.5, 3).map(lambda power: 10**power)


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, penalties)
def test_the_gradient_is_within_the_gap_and_nothing_is_worse_than_the_start(
    size: tuple[int, int, int], seed: int, penalty: float
) -> None:
    case = made_up(*size, seed)
    found = fit_exact(*case, penalty)
    assert squared_gradient(found.head, case, penalty) / (2 * penalty) <= 1.2e-6 * size[0]
    assert found.gap <= 1.2e-6
    assert value(found.head, case, penalty) <= value(case[0], case, penalty)


@settings(max_examples=40, deadline=None)
@given(sizes, seeds, penalties)
def test_the_order_of_the_pictures_does_not_count(size: tuple[int, int, int], seed: int, penalty: float) -> None:
    """Heads within the gap of the least objective are this close, as it is strongly convex."""
    head, features, labels = made_up(*size, seed)
    order = np.random.default_rng(seed).permutation(len(labels))
    found = fit_exact(head, features, labels, penalty, gap=1e-9)
    again = fit_exact(head, features[order], labels[order], penalty, gap=1e-9)
    allowed = sum(np.sqrt(2 * fit.gap * size[0] / penalty) for fit in (found, again))
    assert distance(found.head, again.head) <= allowed
    assert allowed < 0.01


@settings(max_examples=30, deadline=None)
@given(sizes, seeds)
def test_a_growing_penalty_leads_back_to_the_shipped_head(size: tuple[int, int, int], seed: int) -> None:
    case = made_up(*size, seed)
    moved = [distance(fit_exact(*case, penalty, gap=1e-10).head, case[0]) for penalty in (0.1, 10.0, 1e3, 1e12)]
    assert moved == sorted(moved, reverse=True)
    assert moved[0] > 0
    assert moved[-1] == 0


def test_every_picture_twice_is_half_the_penalty() -> None:
    head, features, labels = made_up(30, 50, 4)
    once = fit_exact(head, features, labels, 0.5, gap=1e-10)
    twice = fit_exact(head, np.tile(features, (2, 1)), np.tile(labels, 2), 1.0, gap=1e-10)
    assert distance(once.head, twice.head) < 1e-3


def test_equal_features_give_the_shares_of_their_labels() -> None:
    """What cannot be told apart is believed as often as it was seen, if the penalty lets it."""
    head, features, _ = made_up(1, 8, 3)
    labels = np.repeat([0, 1], [30, 10])
    found = fit_exact(head, np.tile(features, (40, 1)), labels, 1e-4)
    assert found.gap <= 1.1e-6
    np.testing.assert_allclose(found.head.probabilities(features)[0], [0.75, 0.25, 0], atol=1e-3)


def test_a_class_that_is_alone_takes_all() -> None:
    head, features, _ = made_up(20, 30, 5)
    found = fit_exact(head, features, np.full(20, 3), 0.01)
    assert found.gap <= 1.1e-6
    assert found.head.probabilities(features)[:, 3].min() > 0.99


def test_constant_features_leave_it_to_the_bias() -> None:
    head, _, labels = made_up(50, 10, 4)
    found = fit_exact(head, np.zeros((50, 10), np.float32), labels, 1e-3)
    assert np.array_equal(found.head.weight, head.weight)
    shares = np.bincount(labels, minlength=4) / 50
    np.testing.assert_allclose(np.exp(found.head.bias) / np.exp(found.head.bias).sum(), shares, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 60])
@pytest.mark.parametrize("scale", [1e-4, 1e2, 1e4])
@pytest.mark.parametrize("penalty", [1e-6, 1.0, 1e6])
def test_the_gap_is_true_whatever_the_scales(count: int, scale: float, penalty: float) -> None:
    """Also where it is not what was asked for: classes that overlap, on a scale that float64 can hardly resolve."""
    head, features, labels = made_up(count, 12, 3, apart=0.2)
    case = head, features * np.float32(scale), labels
    found = fit_exact(*case, penalty)
    reached, shipped = value(found.head, case, penalty), value(head, case, penalty)
    assert reached <= shipped
    assert reached - minimum(case, penalty) <= (found.gap + 1e-9) * count
    assert reached < 0.99 * shipped or found.gap <= 1e-6


@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("scale", [1e18, 1e30])
@pytest.mark.parametrize("penalty", [1e-6, 1.0, 1e30])
@pytest.mark.filterwarnings("error")
def test_the_head_is_finite_whatever_the_scales(count: int, scale: float, penalty: float) -> None:
    head, features, labels = made_up(count, 12, 3, apart=0.2)
    case = head, features * np.float32(scale), labels
    found = fit_exact(*case, penalty)
    assert np.isfinite(found.head.weight).all()
    assert np.isfinite(found.head.bias).all()
    assert np.isfinite(found.gap)
    assert value(found.head, case, penalty) <= value(head, case, penalty)


def test_where_rounding_spoils_a_direction_it_goes_on_along_the_gradient() -> None:
    """Features of a thousand and next to no penalty are too much for float32."""
    head, features, labels = made_up(60, 12, 3, seed=1, apart=0.2)
    assert fit_exact(head, features * np.float32(1e3), labels, 1e-9).gap < 1e-5


def test_a_gap_that_cannot_be_reached_is_told() -> None:
    """A head of float32 is not that near to the minimum."""
    case = made_up(60, 40, 4)
    found = fit_exact(*case, 1.0, gap=1e-30)
    assert 1e-30 < found.gap < 1e-9


def test_a_head_that_is_right_already_is_kept() -> None:
    case = made_up(40, 20, 3)
    head = fit_exact(*case, 1.0, gap=1e-9).head
    anchored = head, case[1], case[2]
    again = fit_exact(*anchored, 1e9)
    assert again.iterations == 0
    assert np.array_equal(again.head.weight, head.weight)
    assert np.array_equal(again.head.bias, head.bias)


def test_the_given_head_is_left_as_it_is() -> None:
    head, features, labels = made_up(20, 30, 4)
    before = Head(head.weight.copy(), head.bias.copy())
    fit_exact(head, features, labels, 1.0)
    assert distance(before, head) == 0


def test_a_listener_hears_of_every_iteration() -> None:
    case = made_up(60, 40, 4)
    heard: list[tuple[int, Head, float]] = []
    found = fit_exact(*case, 1.0, listener=lambda *news: heard.append(news))
    assert [number for number, _, _ in heard] == list(range(1, found.iterations + 1))
    assert distance(heard[-1][1], found.head) == 0
    for _, head, loss in heard:
        assert loss == pytest.approx(head.loss(case[1], case[2]))
    objectives = [value(head, case, 1.0) for head in (case[0], *(head for _, head, _ in heard))]
    assert objectives == sorted(objectives, reverse=True)
    assert len(set(objectives)) > 3


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(wrong: float) -> None:
    head, features, labels = made_up(5, 6, 3)
    features[2, 1] = wrong
    with pytest.raises(UserError, match="not finite"):
        fit_exact(head, features, labels, 1.0)
