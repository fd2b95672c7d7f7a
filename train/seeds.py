"""Randomness by purpose: each use draws from (run seed, purpose, ...), never from what was drawn before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a stream of random numbers is for. The numbers are part of a run's meaning: never reuse one."""

    PARTITION = 0
    COHORT = 1
    LOCAL_TRAINING = 2
    EVALUATION_ORDER = 3
    PERSONALIZATION = 4
    CALIBRATION_ORDER = 5
    DROPOUT = 6
    SPLIT = 7
    PERSONALIZATION_DROPOUT = 8
    DEFAULTS = 9


def numpy_stream(seed: int, purpose: Purpose, *path: int) -> np.random.Generator:
    return np.random.default_rng([seed, purpose, *path])


def torch_stream(seed: int, purpose: Purpose, *path: int) -> torch.Generator:
    state = np.random.SeedSequence([seed, purpose, *path]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


@contextmanager
def dropout_from(device: torch.device, seed: int, purpose: Purpose, *path: int) -> Iterator[None]:
    """While open, torch's own generator, which dropout draws from, is seeded so; it is put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(torch_stream(seed, purpose, *path).initial_seed())
        yield
