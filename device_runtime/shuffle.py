"""The small generator behind every local choice, simple enough to be written again in any language.

splitmix64 (Steele, Lea, Flood, OOPSLA 2014): the state starts at the seed; each draw adds 0x9E3779B97F4A7C15 and mixes.
An order is a Fisher-Yates shuffle from the last place down, place i swapped with draw modulo (i + 1).
All arithmetic is modulo 2**64.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fbkit.device_runtime.tensors import Labels

_MASK = (1 << 64) - 1


def splitmix64(seed: int) -> Iterator[int]:
    """Endless 64-bit draws."""
    state = seed & _MASK
    while True:
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        yield mixed ^ (mixed >> 31)


def epoch_order(count: int, seed: int, epoch: int) -> Labels:
    """The order of ``count`` pictures in an epoch (counted from 1): int64 [count]."""
    draws = splitmix64(seed * 1_000_003 + epoch)
    order = list(range(count))
    for place in range(count - 1, 0, -1):
        other = next(draws) % (place + 1)
        order[place], order[other] = order[other], order[place]
    return np.array(order, np.int64)


def stratified_folds(labels: Labels, folds: int, seed: int) -> Labels:
    """Which fold each picture is in: int64 [N], from 0 on; a class is spread evenly, and folds are of even size.

    All pictures in the order of epoch 0, put by class, within a class left in that order, are dealt out like cards: the
    k-th is in fold k modulo ``folds``.
    """
    order = epoch_order(len(labels), seed, 0)
    order = order[np.argsort(labels[order], kind="stable")]
    assigned = np.empty(len(labels), np.int64)
    assigned[order] = np.arange(len(labels)) % folds
    return assigned
