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
class Draw:
    """What a batch will be: which pictures, and how each is changed. On the CPU, so that any device draws the same.

    chosen: int64 [B], indices of pictures. shifts: int64 [2, B], how far down and right the crop begins in the padded
    picture. mirrored: bool [B].
    """

    chosen: Tensor
    shifts: Tensor
    mirrored: Tensor

    def __len__(self) -> int:
        return len(self.chosen)


def joined(draws: Sequence[Draw]) -> Draw:
    """Several batches as one."""
    return Draw(
        torch.cat([draw.chosen for draw in draws]),
        torch.cat([draw.shifts for draw in draws], dim=1),
        torch.cat([draw.mirrored for draw in draws]),
    )


@dataclass(frozen=True)
class Batcher:
    """Turns a client's indices into normalised float batches on the worker's device."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    batch_size: int
    crop_padding: int = 0
    flip: bool = False

    def draws(self, indices: Tensor, epochs: int, generator: torch.Generator) -> Iterator[Draw]:
        """Batches over ``epochs`` passes; order, crops and flips are drawn from ``generator``."""
        for _ in range(epochs):
            order = indices[torch.randperm(len(indices), generator=generator)]
            for chosen in split_batches(order, self.batch_size):
                yield Draw(chosen, *draw_changes(len(chosen), self.crop_padding, self.flip, generator))

    def make(self, pictures: Pictures, draw: Draw) -> Batch:
        """The batch itself."""
        chosen = draw.chosen.to(pictures.images.device)
        images = pictures.images[chosen]
        if self.crop_padding or self.flip:
            images = change(images, self.crop_padding, draw.shifts, draw.mirrored)
        return self.normalise(images), pictures.labels[chosen]

    def shuffled(self, pictures: Pictures, indices: Tensor, epochs: int, generator: torch.Generator) -> Iterator[Batch]:
        """``draws``, made."""
        return (self.make(pictures, draw) for draw in self.draws(indices, epochs, generator))

    def plain(self, pictures: Pictures, indices: Tensor) -> Iterator[Batch]:
        """Batches in the given order, unchanged but normalised."""
        for chosen in split_batches(indices.to(pictures.images.device), self.batch_size):
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


def draw_changes(count: int, crop_padding: int, flip: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shifts, int64 [2, count], for a random crop out of each padded picture; and which to mirror, bool [count]."""
    if not crop_padding and not flip:
        return torch.zeros(2, count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
    shifts = torch.randint(0, 2 * crop_padding + 1, (2, count), generator=generator)
    return shifts, torch.randint(0, 2, (count,), generator=generator).bool() & flip


def change(images: Tensor, crop_padding: int, shifts: Tensor, mirrored: Tensor) -> Tensor:
    """Crop after zero padding, and mirror, each picture of uint8 [B, C, H, W] as was drawn for it.

    A crop and a flip are only other coordinates to read from, so the whole batch is one gather.
    """
    batch, _, height, width = images.shape
    rows = torch.arange(height) + shifts[0][:, None]
    columns = torch.arange(width).expand(batch, width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) + shifts[1][:, None]
    padded = torch.nn.functional.pad(images, (crop_padding,) * 4)
    device = images.device
    pick = torch.arange(batch, device=device)
    gathered = padded[pick[:, None, None], :, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
    return gathered.permute(0, 3, 1, 2)
