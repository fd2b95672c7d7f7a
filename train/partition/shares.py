"""What the ways of dealing share: counting classes, rounding shares to whole pictures, sizes that grow linearly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fbkit.errors import UserError
from fbkit.train.data import Dataset, Pictures

Indices = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Deal = Callable[[Indices], tuple[Indices, ...]]  # the labels of pictures, int64 [N], to each client's indices


def class_counts(pictures: Pictures, class_count: int) -> Indices:
    """How many pictures each class has: int64 [classes]."""
    return np.bincount(pictures.labels.numpy(), minlength=class_count).astype(np.int64)


def refuse_lopsided_classes(dataset: Dataset) -> None:
    """Raise UserError where a class can be learned but not tested, or tested but not learned."""
    train, test = (class_counts(pictures, len(dataset.classes)) for pictures in (dataset.train, dataset.test))
    for name, learned, tested in zip(dataset.classes, train.tolist(), test.tolist(), strict=True):
        if bool(learned) != bool(tested):
            raise UserError(
                f"class {name!r} has {learned} training pictures and {tested} test pictures; "
                "give it some of both or leave it out of the data"
            )


def apportion(totals: Indices, shares: Shares) -> Indices:
    """Whole numbers that stand in the ratio of ``shares`` and add up to ``totals``, by the largest remainders.

    Args:
        totals: int64 [rows].
        shares: float64 [rows, columns], each row adds up to one.

    Returns:
        int64 [rows, columns], each less than one away from its share of the row's total.
    """
    exact = shares * totals[:, None]
    whole = np.floor(exact).astype(np.int64)
    left = totals - whole.sum(axis=1)
    places = np.argsort(np.argsort(whole - exact, axis=1, kind="stable"), axis=1)
    whole += places < left[:, None]
    return whole


def linear_sizes(count: int, unbalanced: float) -> Shares:
    """Sizes of ``count`` clients in units of their mean, growing evenly from 1 - unbalanced to 1 + unbalanced."""
    return np.linspace(1 - unbalanced, 1 + unbalanced, count) if count > 1 else np.ones(1)
