"""A sum that is the same, to the last bit, in whatever order and on however many workers it was made.

Floating-point addition is not associative, so a plain sum over clients depends on how they were spread over
workers. Here every term is cut into a multiple of 2**-20 and a rest that is a multiple of 2**-72. Sums of either
kind are exact in float64 (while they stay below 2**32 and 2**-19), and exact sums do not depend on order. What is cut
off, below 2**-73 of a term, is cut off each term alone. (The idea is Demmel and Nguyen's reproducible summation,
ARITH 2013, with a grid fixed in advance.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_COARSE = 2.0**20
_FINE = 2.0**72


class ReproducibleSum:
    """Weighted sum of lists of tensors with fixed shapes.

    ``buffer`` is what workers must add up (float64, one all-reduce): the coarse sums, the fine ones, the weight.
    """

    def __init__(self, like: Sequence[Tensor]) -> None:
        self._sizes = [tensor.numel() for tensor in like]
        self._shapes = [tensor.shape for tensor in like]
        self._count = sum(self._sizes)
        device = like[0].device if like else torch.device("cpu")
        self.buffer = torch.zeros(2 * self._count + 1, dtype=torch.float64, device=device)

    def add(self, tensors: Sequence[Tensor], weight: float) -> None:
        terms = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).double().mul_(weight)
        coarse = (terms * _COARSE).round_() / _COARSE
        fine = ((terms - coarse) * _FINE).round_() / _FINE
        self.buffer[: self._count] += coarse
        self.buffer[self._count : -1] += fine
        self.buffer[-1] += weight

    @property
    def weight(self) -> float:
        return float(self.buffer[-1])

    def mean(self) -> list[Tensor]:
        """The weighted mean in float64, shaped like the terms."""
        flat = (self.buffer[: self._count] + self.buffer[self._count : -1]) / self.buffer[-1]
        return [part.view(shape) for part, shape in zip(flat.split(self._sizes), self._shapes, strict=True)]
