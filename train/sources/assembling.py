"""The last step of every source: normalisation, fingerprint, data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbkit.errors import UserError
from fbkit.train.data import Dataset, Owners, Pictures

Numbers = tuple[float, ...]

_STEP_BYTES = 1 << 22


def assemble(
    train: Pictures,
    test: Pictures,
    classes: Sequence[str],
    mean: Numbers,
    std: Numbers,
    *,
    fingerprint: str | None = None,
    sums: NDArray[np.int64] | None = None,
    owners: Owners | None = None,
) -> Dataset:
    """A data set from fitted pictures.

    Args:
        mean: the recipe's, one for each channel; empty to compute mean and std over the training pictures.
        fingerprint: where something cheaper than the pixels stands for them.
        sums: ``channel_sums`` of the training pictures, where they are known.

    Raises:
        UserError: mean or std has not one number for each channel.
    """
    channels = train.images.shape[1]
    for key, numbers in (("data.mean", mean), ("data.std", std)):
        if len(numbers) != (channels if mean or std else 0):
            raise UserError(
                f"{key}: has {len(numbers)} numbers, but the pictures have {channels} channels; "
                "give mean and std one number for each channel, or leave both out"
            )
    if not mean:
        height, width = train.images.shape[2:]
        each = channel_sums(train.images.numpy()) if sums is None else sums
        mean, std = mean_and_std(each.sum(axis=0), len(each) * height * width)
    fingerprint = fingerprint or _fingerprint(train, test, classes)
    return Dataset(train, test, tuple(classes), mean, std, fingerprint, owners)


def channel_sums(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For uint8 [N, C, H, W], each picture's sum of values and of squared values by channel: int64 [N, C, 2]."""
    result = np.empty((len(images), images.shape[1], 2), np.int64)
    step = max(1, _STEP_BYTES // max(1, images[0].size))
    for start in range(0, len(images), step):
        values = images[start : start + step].astype(np.uint32)
        result[start : start + step, :, 0] = values.sum(axis=(2, 3), dtype=np.int64)
        result[start : start + step, :, 1] = np.square(values).sum(axis=(2, 3), dtype=np.int64)
    return result


def mean_and_std(sums: NDArray[Any], pixels: int) -> tuple[Numbers, Numbers]:
    """Mean and std by channel of values in 0..1, to 4 decimals.

    Args:
        sums: [C, 2], of values (0..255) and of squared values over all pictures.
        pixels: in all pictures together.
    """
    totals = sums / pixels
    mean = totals[:, 0] / 255
    std = np.sqrt(np.maximum(totals[:, 1] / 255**2 - mean**2, 0))
    return (
        tuple(round(float(value), 4) for value in mean),
        tuple(max(round(float(value), 4), 1e-4) for value in std),
    )


def _fingerprint(train: Pictures, test: Pictures, classes: Sequence[str]) -> str:
    shapes = [list(pictures.images.shape) for pictures in (train, test)]
    digest = hashlib.sha256(json.dumps([list(classes), shapes]).encode())
    for pictures in (train, test):
        digest.update(np.ascontiguousarray(pictures.images.numpy()).data)
        digest.update(np.ascontiguousarray(pictures.labels.numpy()).data)
    return digest.hexdigest()


def check_classes(classes: Sequence[str], where: str) -> None:
    """Raise UserError unless there are two different names or more, each usable as a folder's name."""
    if len(classes) < 2:
        raise UserError(f"{where}: has {len(classes)} classes; at least 2 are needed to tell anything apart")
    for name in classes:
        if not name.isprintable() or not name.strip() or "/" in name or name.startswith("."):
            raise UserError(f"{where}: {name!r} cannot be a class's name; use a plain word without a slash")
    if len(set(classes)) < len(classes):
        raise UserError(f"{where}: names a class twice; each class needs a name of its own")
