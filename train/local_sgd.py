"""What a client does: some passes of SGD over its own batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fbkit.train.data import Batch


@dataclass(frozen=True)
class Pull:
    """A proximal term: strength / 2 times the squared distance of the trained parameters to ``toward``."""

    toward: Sequence[Tensor]
    strength: float


def pull_to_present(part: nn.Module, strength: float) -> Pull:
    """A pull toward the values that ``part`` has now."""
    return Pull([parameter.detach().clone() for parameter in part.parameters()], strength)


@dataclass(frozen=True)
class LocalSGD:
    """SGD with momentum and weight decay as torch defines them."""

    lr: float
    momentum: float
    weight_decay: float

    def optimizer(self, part: nn.Module) -> torch.optim.SGD:
        """An optimizer without a past."""
        return torch.optim.SGD(
            part.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, foreach=True
        )

    def __call__(self, model: nn.Module, part: nn.Module, batches: Iterable[Batch], pull: Pull | None = None) -> float:
        """Train ``part`` of ``model`` in place with a new optimizer and leave every other parameter untouched.

        Returns:
            The mean cross-entropy over the pictures seen (0 where there were none).
        """
        return run_steps(model, part, batches, self.optimizer(part), pull)


def run_steps(
    model: nn.Module,
    part: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    pull: Pull | None = None,
) -> float:
    """One step a batch on the parameters of ``part``; return the mean cross-entropy."""
    model.requires_grad_(False)
    part.requires_grad_(True)
    parameters = list(part.parameters())
    total = torch.zeros((), dtype=torch.float64, device=parameters[0].device)
    seen = 0
    for images, labels in batches:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if pull and pull.strength:
            _add_pull(parameters, pull)
        optimizer.step()
        total += loss.detach() * len(labels)
        seen += len(labels)
    return float(total) / max(seen, 1)


def _add_pull(parameters: Sequence[nn.Parameter], pull: Pull) -> None:
    """Add the proximal term's gradient. A parameter that has none takes no part in the model and has not moved."""
    for parameter, goal in zip(parameters, pull.toward, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - goal, alpha=pull.strength)
