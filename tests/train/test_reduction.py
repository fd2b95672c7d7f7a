from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbkit.train.reduction import ReproducibleSum

floats = st.floats(-1e4, 1e4, width=32)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(floats, st.integers(1, 1000)), min_size=2, max_size=12), st.randoms(), st.integers(1, 4))
def test_order_and_grouping_do_not_change_a_bit(terms: list[tuple[float, int]], random: object, groups: int) -> None:
    def total(ordered: list[tuple[float, int]], parts: int) -> torch.Tensor:
        like = [torch.zeros(1)]
        sums = [ReproducibleSum(like) for _ in range(parts)]
        for place, (value, weight) in enumerate(ordered):
            sums[place % parts].add([torch.tensor([value])], weight)
        for other in sums[1:]:  # what an all-reduce does
            sums[0].buffer += other.buffer
        return sums[0].mean()[0]

    shuffled = list(terms)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert torch.equal(total(terms, 1), total(shuffled, groups))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(floats, st.integers(1, 1000)), min_size=1, max_size=12))
def test_the_mean_is_the_exact_one_rounded(terms: list[tuple[float, int]]) -> None:
    total = ReproducibleSum([torch.zeros(1)])
    for value, weight in terms:
        total.add([torch.tensor([value])], weight)
    weights = sum(weight for _, weight in terms)
    exact = sum((Fraction(float(np.float32(value))) * weight for value, weight in terms), Fraction(0)) / weights
    found = float(total.mean()[0])
    assert abs(Fraction(found) - exact) <= abs(exact) * Fraction(2) ** -51 + Fraction(2) ** -72


def test_shapes_come_back_and_weights_count() -> None:
    first, second = torch.randn(3, 4), torch.randn(5)
    total = ReproducibleSum([first, second])
    total.add([first, second], 3)
    total.add([first * 2, second * 2], 1)
    assert total.weight == 4
    a, b = total.mean()
    torch.testing.assert_close(a, first.double() * 1.25)
    torch.testing.assert_close(b, second.double() * 1.25)


def test_what_is_not_finite_is_not_hidden() -> None:
    total = ReproducibleSum([torch.zeros(2)])
    total.add([torch.tensor([float("nan"), float("inf")])], 1)
    assert not torch.isfinite(total.mean()[0]).any()
