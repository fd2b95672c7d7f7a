"""Silos' weights, averaged as the engine averages its clients'."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fbkit.train.flower.letters import Letter, Trained, check_values
from fbkit.train.reduction import ReproducibleSum
from fbkit.train.weights import load_into

_ORIGIN = Path("sent weights that cannot be averaged")  # what messages call a silo's weights


@dataclass(frozen=True)
class Update:
    """A silo's round: what it said, and the floating-point tensors of its part, in the order of the part."""

    said: Trained
    tensors: list[Tensor]


class Averager:
    """Averages a part of the server's model as the engine does: in exact sums, whose order does not count."""

    def __init__(self, part: nn.Module) -> None:
        self._part = part
        self._scratch = copy.deepcopy(part)

    def read(self, _number: int, letter: Letter) -> Update:
        """Check a silo's answer.

        Raises:
            UserError: names, shapes or values are not those of the part.
        """
        said = check_values(Trained, letter.values)
        load_into(self._scratch, letter.tensors, _ORIGIN)
        return Update(said, [tensor.clone() for tensor in _float_tensors(self._scratch)])

    def average(self, updates: Mapping[int, Update], weights: Mapping[int, int]) -> float:
        """Put the weighted mean into the part, in place; return the mean loss."""
        loss = torch.zeros(1)
        tensors = _float_tensors(self._part)
        total = ReproducibleSum([*tensors, loss])
        for number, update in updates.items():
            total.add([*update.tensors, loss + update.said.loss], weights[number])
        *means, mean_loss = total.mean()
        torch._foreach_copy_(tensors, [mean.float() for mean in means])
        return float(mean_loss)


def _float_tensors(part: nn.Module) -> list[Tensor]:
    return [tensor.data for tensor in (*part.parameters(), *part.buffers()) if tensor.is_floating_point()]
