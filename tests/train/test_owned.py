from __future__ import annotations

import numpy as np
import pytest
import torch

from fbkit.train.owned import Owned, sizes_of


def test_it_is_the_sequence_of_its_parts() -> None:
    parts = [np.array([4, 2]), np.array([7], np.int64), np.array([1, 1, 3])]
    owned = Owned.joined(parts)
    assert len(owned) == 3
    assert [own.tolist() for own in owned] == [[4, 2], [7], [1, 1, 3]]
    assert [own.tolist() for own in owned[1:]] == [[7], [1, 1, 3]]
    assert owned[-1].tolist() == [1, 1, 3]
    assert owned[0].dtype == torch.int64
    assert sizes_of(owned).tolist() == sizes_of(tuple(owned)).tolist() == [2, 1, 3]
    for place in (3, -4):
        with pytest.raises(IndexError, match="there are 3 clients"):
            owned[place]


def test_sizes_must_add_up() -> None:
    with pytest.raises(ValueError, match="add up to 3, there are 4"):
        Owned(np.arange(4), np.array([1, 2]))


def test_a_clients_indices_are_no_copy() -> None:
    indices = np.arange(6)
    owned = Owned(indices, np.array([2, 4]))
    assert np.shares_memory(owned[1].numpy(), indices)
    assert owned.bytes == 6 * 8 + 3 * 8
