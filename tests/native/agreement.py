"""Heads and features that two runtimes made of the same pictures, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.profile import Profile, find_profile
from fbkit.device_runtime.tensors import Float

TOLERANCE = 1e-4  # relative to the largest value


def opened(folder: Path, bundle: Bundle) -> Profile:
    profile = find_profile(folder, bundle.manifest)
    assert profile
    return profile


def difference(found: Float, expected: Float) -> float:
    """Largest difference, relative to the largest expected value; -1e30 stands for a class that is left out."""
    assert found.shape == expected.shape
    left_out = expected == -1e30
    assert np.array_equal(found == -1e30, left_out)
    scale = np.abs(expected[~left_out]).max()
    return float(np.abs(np.where(left_out, 0, found - expected)).max() / scale)


def assert_same_profile(here: Path, there: Path, bundle: Bundle) -> None:
    """The same pictures, classes, features and head, but for rounding."""
    one, other = opened(here, bundle), opened(there, bundle)
    assert one.classes == other.classes
    mine, theirs = one.memory(), other.memory()
    assert np.array_equal(mine.numbers, theirs.numbers)
    assert np.array_equal(mine.digests, theirs.digests)
    assert np.array_equal(mine.labels, theirs.labels)
    assert difference(mine.features, theirs.features) < TOLERANCE
    head, expected = one.head(), other.head()
    assert (head is None) == (expected is None)
    if head and expected:
        assert difference(head.weight, expected.weight) < TOLERANCE
        assert difference(head.bias, expected.bias) < TOLERANCE
    assert [entry["event"] for entry in one.journal()] == [entry["event"] for entry in other.journal()]
    for own, known in zip(one.state.heads, other.state.heads, strict=True):
        assert (own.file, own.classes, own.seen, own.pictures) == (
            known.file,
            known.classes,
            known.seen,
            known.pictures,
        )
        assert own.recipe == known.recipe
