"""What a client does, in plain torch: batches from pictures in memory, and SGD on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad
from workload import Spec

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batcher:
    """Makes augmented, normalised batches of a client's uint8 pictures."""

    batch_size: int
    crop_padding: int
    flip: bool
    mean: Sequence[float]
    std: Sequence[float]
    channels_last: bool = False

    @classmethod
    def of(cls, spec: Spec) -> Batcher:
        return cls(spec.batch_size, spec.crop_padding, spec.flip, spec.mean, spec.std, spec.channels_last)

    def one_pass(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Iterator[Batch]:
        """Each picture once, in a new order."""
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        for chosen in split(torch.randperm(len(labels), generator=generator), self.batch_size):
            drawn = flipped(images[chosen], generator) if self.flip else images[chosen]
            if self.crop_padding:
                drawn = cropped(drawn, self.crop_padding, generator)
            scaled = (drawn.float() / 255 - mean) / std
            layout = torch.channels_last if self.channels_last else torch.contiguous_format
            yield scaled.contiguous(memory_format=layout), labels[chosen]


def stream(*numbers: int) -> torch.Generator:
    """Random numbers that follow from ``numbers`` alone."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))


def split(order: Tensor, batch_size: int) -> list[Tensor]:
    """Cut into batches, the last one smaller; one picture alone joins those before it, as it has no statistics."""
    batches = list(order.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture mirrored or not."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)


def cropped(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Each picture padded with zeros and cut back to its size at a place of its own."""
    count, _, height, width = images.shape
    windows = pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
    tops, lefts = torch.randint(2 * padding + 1, (2, count), generator=generator)
    return windows[torch.arange(count), :, tops, lefts]


def optimizer_of(spec: Spec) -> partial[torch.optim.SGD]:
    """What makes a client's optimizer from the parameters and the round's learning rate."""
    return partial(torch.optim.SGD, momentum=spec.momentum, weight_decay=spec.weight_decay)


def train(net: nn.Module, batches: Iterable[Batch], optimizer: torch.optim.Optimizer) -> int:
    """One step a batch; return how many pictures were stepped on."""
    pictures = 0
    net.train()
    for images, labels in batches:
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()
        optimizer.step()
        pictures += len(labels)
    return pictures
