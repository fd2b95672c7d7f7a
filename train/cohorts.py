"""Who trains in a round. It follows from the seed, so any worker knows it at any time."""

from __future__ import annotations

from collections.abc import Sequence

from fbkit.train.recipe import Recipe
from fbkit.train.seeds import Purpose, numpy_stream


def sample_cohort(recipe: Recipe, training: Sequence[int], round_number: int) -> list[int]:
    """The clients of a round, drawn without repetition from those that train."""
    rng = numpy_stream(recipe.seed, Purpose.COHORT, round_number)
    cohort: list[int] = rng.choice(training, size=recipe.training.cohort, replace=False).tolist()
    return cohort
