"""Numbers that the server pools over the silos: mean and std of pixels, and of what normalisation layers see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fbkit.errors import UserError
from fbkit.train.flower.letters import Description, Letter
from fbkit.train.norm_statistics import Statistics, from_means
from fbkit.train.reduction import ReproducibleSum
from fbkit.train.sources.assembling import Numbers, mean_and_std


def pooled_normalisation(said: Sequence[Description], channels: int, pixels: int) -> tuple[Numbers, Numbers]:
    """Mean and std of each channel, as ``assemble`` finds them where all pictures are in one place.

    Args:
        pixels: in each picture.

    Raises:
        UserError: a silo has sent sums of another number of channels, or impossible ones.
    """
    for silo in said:
        most = 255 * pixels * silo.train_pictures
        if not len(silo.sums) == len(silo.squares) == channels:
            raise UserError(f"client {silo.client} sent sums of {len(silo.sums)} channels, not {channels}")
        if not all(0 <= a <= most and 0 <= b <= 255 * most for a, b in zip(silo.sums, silo.squares, strict=True)):
            raise UserError(f"client {silo.client} sent sums that {silo.train_pictures} pictures cannot have")
    sums = np.sum([[silo.sums, silo.squares] for silo in said], axis=0).T
    return mean_and_std(sums, sum(silo.train_pictures for silo in said) * pixels)


def read_statistics(layers: Mapping[str, int], letter: Letter) -> list[Tensor]:
    """A silo's means and then mean squares of what normalisation layers see, float64.

    Args:
        layers: how many channels each has.

    Raises:
        UserError: other layers or shapes, or values that are not finite.
    """
    wanted = [*(f"{layer}.mean" for layer in layers), *(f"{layer}.variance" for layer in layers)]
    sizes = [*layers.values(), *layers.values()]
    tensors = [letter.tensors.get(name) for name in wanted]
    if len(letter.tensors) != len(wanted) or any(
        tensor is None or tensor.shape != (size,) or not tensor.isfinite().all()
        for tensor, size in zip(tensors, sizes, strict=True)
    ):
        raise UserError("sent statistics of another model, or some that are not finite")
    found = [tensor.double() for tensor in tensors if tensor is not None]
    means, variances = found[: len(layers)], found[len(layers) :]
    return [*means, *(variance + mean**2 for mean, variance in zip(means, variances, strict=True))]


def pooled_statistics(
    layers: Sequence[str], answers: Mapping[int, list[Tensor]], weights: Mapping[int, int]
) -> Statistics:
    """Mean and variance of each layer over all pictures, from what the silos found in theirs."""
    total = ReproducibleSum(next(iter(answers.values())))
    for number, values in answers.items():
        total.add(values, weights[number])
    pooled = total.mean()
    return from_means(layers, pooled[: len(layers)], pooled[len(layers) :])


def mean_loss(losses: Mapping[int, float], weights: Mapping[int, int]) -> float:
    """Over all pictures, from each silo's mean."""
    total = ReproducibleSum([torch.zeros(1)])
    for number, loss in losses.items():
        total.add([torch.tensor([loss])], weights[number])
    return float(total.mean()[0])
