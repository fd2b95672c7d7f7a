"""Pictures in memory: one uint8 tensor for all clients, and batches made from it by index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Pictures:
    """images: uint8 [N, channels, height, width]; labels: int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Owners:
    """Clients that come with the data: each one's indices into the training and test pictures, and its name.

    ``names`` is empty where they have none.
    """

    names: tuple[str, ...]
    train: Sequence[Tensor]
    test: Sequence[Tensor]


@dataclass(frozen=True)
class Dataset:
    """A source's pictures, and the mean and std of each channel (of values in 0..1) that normalise them.

    ``owners`` is None where the pictures belong to nobody yet and are to be dealt to clients.
    """

    train: Pictures
    test: Pictures
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    owners: Owners | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a picture."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True)
class Batcher:
    """Turns a client's indices into normalised float batches on the worker's device."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_size: int
    crop_padding: int = 0
    flip: bool = False

    def shuffled(self, pictures: Pictures, indices: Tensor, epochs: int, generator: torch.Generator) -> Iterator[Batch]:
        """Augmented batches over ``epochs`` passes; order and crops are drawn from ``generator``, on the CPU."""
        for _ in range(epochs):
            order = indices[torch.randperm(len(indices), generator=generator)]
            for chosen in split_batches(order, self.batch_size):
                images = augment(pictures.images[chosen], self.crop_padding, self.flip, generator)
                yield self.normalise(images), pictures.labels[chosen]

    def plain(self, pictures: Pictures, indices: Tensor) -> Iterator[Batch]:
        """Batches in the given order, unchanged but normalised."""
        for chosen in split_batches(indices, self.batch_size):
            yield self.normalise(pictures.images[chosen]), pictures.labels[chosen]

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] to float32, (value / 255 - mean) / std, channels last in memory."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        scaled = (images.float() / 255 - mean) / std
        return scaled.contiguous(memory_format=torch.channels_last)


def split_batches(indices: Tensor, batch_size: int) -> list[Tensor]:
    """Cut into batches, the last one smaller; but one picture alone joins the batch before it.

    One picture has no batch to be normalised by: training on its own statistics teaches nothing, and where a layer's
    map is a single pixel it cannot be done.
    """
    batches = list(indices.split(batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def augment(images: Tensor, crop_padding: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crop after zero padding, and random horizontal flip, drawn for each picture of uint8 [B, C, H, W].

    A crop and a flip are only other coordinates to read from, so the whole batch is one gather.
    """
    if not crop_padding and not flip:
        return images
    batch, _, height, width = images.shape
    draws = torch.randint(0, 2 * crop_padding + 1, (2, batch, 1), generator=generator)
    mirrored = torch.randint(0, 2, (batch, 1), generator=generator).bool() & flip
    rows = torch.arange(height) + draws[0]
    columns = torch.arange(width).expand(batch, width)
    columns = torch.where(mirrored, columns.flip(1), columns) + draws[1]
    padded = torch.nn.functional.pad(images, (crop_padding,) * 4)
    device = images.device
    pick = torch.arange(batch, device=device)
    gathered = padded[pick[:, None, None], :, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    return gathered.permute(0, 3, 1, 2)
