"""A client that was sampled in a round: its pictures, its optimizer, and what it kept from the last time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fbkit.train.client_states import ClientStates
from fbkit.train.data import Batch, Batcher, Pictures
from fbkit.train.local_sgd import LocalSGD
from fbkit.train.recipe import TrainingRecipe


@dataclass
class LocalClient:
    """What an algorithm's ``client_update`` may use.

    settings: the recipe's training section. sgd: with the round's learning rate. passes: how often the client went
    through its pictures so far.
    """

    number: int
    round_number: int
    settings: TrainingRecipe
    sgd: LocalSGD
    batcher: Batcher
    pictures: Pictures
    indices: Tensor
    stream: torch.Generator
    states: ClientStates
    passes: int = 0

    def batches(self, epochs: int | None = None) -> Iterator[Batch]:
        """Augmented batches over the recipe's local epochs, or over ``epochs``; each call goes on in the stream."""
        epochs = epochs or self.settings.local_epochs
        self.passes += epochs
        return self.batcher.shuffled(self.pictures, self.indices, epochs, self.stream)

    def restore(self, module: nn.Module) -> None:
        """Load what this client kept; a client that trains for the first time leaves ``module`` as it is."""
        self.states.restore(self.number, module)

    def keep(self, module: nn.Module) -> None:
        """Keep the module's weights on the client until it is sampled again."""
        self.states.keep(self.number, self.round_number, module)
