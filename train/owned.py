"""Which pictures are whose, for any number of clients: two flat arrays instead of a tensor object for each client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Owned(Sequence[Tensor]):
    """A sequence with a client's indices at each place, int64 [number of its pictures]: a view, nothing is copied.

    Args:
        indices: int64 [sum of all sizes], client after client.
        sizes: int64 [clients].
    """

    def __init__(self, indices: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self._indices = torch.from_numpy(np.ascontiguousarray(indices))
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        if self._starts[-1] != len(indices):
            raise ValueError(f"sizes add up to {self._starts[-1]}, there are {len(indices)} indices")

    @classmethod
    def joined(cls, parts: Iterable[NDArray[np.int64]]) -> Owned:
        """From each client's own array."""
        parts = list(parts)
        return cls(np.concatenate(parts), np.array([len(part) for part in parts], np.int64))

    @overload
    def __getitem__(self, client: int) -> Tensor: ...
    @overload
    def __getitem__(self, client: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, client: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(client, slice):
            return [self[place] for place in range(*client.indices(len(self)))]
        place = client + len(self) if client < 0 else client
        if not 0 <= place < len(self):
            raise IndexError(f"there are {len(self)} clients")
        return self._indices[self._starts[place] : self._starts[place + 1]]

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return int(self._indices.nbytes + self._starts.nbytes)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __iter__(self) -> Iterator[Tensor]:
        return (self[place] for place in range(len(self)))


def sizes_of(owned: Sequence[Tensor]) -> NDArray[np.int64]:
    """How many pictures each client has: int64 [clients]."""
    if isinstance(owned, Owned):
        return np.diff(owned._starts)
    return np.array([len(indices) for indices in owned], np.int64)
