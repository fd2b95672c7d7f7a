"""What a client does: some passes of SGD over its own batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fbkit.train.data import Batch


@dataclass(frozen=True)
class LocalSGD:
    """SGD with momentum and weight decay as torch defines them, with an optimizer made anew at every call."""

    lr: float
    momentum: float
    weight_decay: float

    def __call__(self, model: nn.Module, part: nn.Module, batches: Iterable[Batch]) -> float:
        """Train ``part`` of ``model`` in place and leave every other parameter untouched.

        Returns:
            The mean loss over the pictures seen (0 where there were none).
        """
        model.requires_grad_(False)
        part.requires_grad_(True)
        optimizer = torch.optim.SGD(
            part.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, foreach=True
        )
        total = torch.zeros((), dtype=torch.float64, device=next(part.parameters()).device)
        seen = 0
        for images, labels in batches:
            loss = cross_entropy(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(labels)
            seen += len(labels)
        return float(total) / max(seen, 1)
