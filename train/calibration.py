"""Static normalisation statistics, found federatedly after the last round.

The paper's models normalise every batch by itself, so a prediction depends on its neighbours in the batch. A device
sees one picture. So the training clients report, for each normalisation layer, how many values its input had, their
sum and their sum of squares; the server pools them into one mean and variance for each channel.

Two ways are tried. ``one-pass``: every layer at once, while all normalise by the batch. ``layer-by-layer``: each
layer in its turn, while those before it already use their pooled statistics, as they will on the device. Kept is the
way whose model has the lower loss on the training clients' training pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fbkit.train.evaluation import score
from fbkit.train.federation import Federation
from fbkit.train.models import norm_layers, set_static_statistics
from fbkit.train.reduction import ReproducibleSum
from fbkit.train.seeds import Purpose, torch_stream

Statistics = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Calibration:
    """The way that was kept, and the mean training loss of each that was tried."""

    kept: str
    losses: dict[str, float]


class _Enough(Exception):
    """Ends a forward pass once the layer in question has been seen."""


def calibrate(federation: Federation) -> Calibration:
    """Give ``federation.model`` its static statistics, in place."""
    layers = _in_order_of_use(federation)
    candidates: dict[str, Statistics] = {"one-pass": pooled_statistics(federation, layers, static=())}
    one_by_one: Statistics = {}
    for layer in layers:
        one_by_one |= pooled_statistics(federation, [layer], static=tuple(one_by_one))
        set_static_statistics(federation.model, one_by_one)
    candidates["layer-by-layer"] = one_by_one

    losses = {}
    for way, statistics in candidates.items():
        set_static_statistics(federation.model, statistics)
        losses[way] = _training_loss(federation)
    kept = min(losses, key=lambda way: losses[way] if math.isfinite(losses[way]) else math.inf)
    set_static_statistics(federation.model, candidates[kept])
    return Calibration(kept, losses)


def pooled_statistics(federation: Federation, layers: Sequence[str], static: Sequence[str]) -> Statistics:
    """Mean and variance of the inputs of ``layers`` over all training clients' pictures, exact up to rounding.

    The layers in ``static`` normalise by the statistics they have, all others by the batch.
    """
    workers, model = federation.workers, federation.model
    modules = norm_layers(model)
    channels = [torch.zeros(modules[layer].num_features, device=workers.device) for layer in layers]
    total = ReproducibleSum([*channels, *channels])
    model.train()
    for layer in static:
        modules[layer].eval()
    batcher = federation.batcher(augmented=False)
    for client in _my_training_clients(federation):
        indices = federation.clients.train[client]
        stream = torch_stream(federation.recipe.seed, Purpose.CALIBRATION_ORDER, client)
        mixed = indices[torch.randperm(len(indices), generator=stream)]  # as in training, a batch mixes the classes
        means, squares = _client_means(
            model,
            [modules[layer] for layer in layers],
            [images for images, _ in batcher.plain(federation.dataset.train, mixed)],
        )
        total.add([*means, *squares], weight=len(indices))
    workers.add_up(total.buffer)
    pooled = total.mean()
    means, squares = pooled[: len(layers)], pooled[len(layers) :]
    return {
        layer: (mean.float(), (square - mean**2).clamp_min(0).float())
        for layer, mean, square in zip(layers, means, squares, strict=True)
    }


def _client_means(
    model: nn.Module, layers: Sequence[nn.Module], batches: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Per layer the mean input and the mean squared input of a channel, float64, over one client's pictures."""
    sums: dict[nn.Module, Tensor] = {}
    squares: dict[nn.Module, Tensor] = {}
    counts: dict[nn.Module, int] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0]
        pixels = [dimension for dimension in range(values.dim()) if dimension != 1]
        sums[layer] = sums.get(layer, 0) + values.sum(pixels, dtype=torch.float64)
        squares[layer] = squares.get(layer, 0) + values.square().sum(pixels, dtype=torch.float64)
        counts[layer] = counts.get(layer, 0) + values.numel() // values.shape[1]
        if layer is layers[-1]:
            raise _Enough

    handles = [layer.register_forward_pre_hook(record) for layer in layers]
    try:
        with torch.inference_mode():
            for images in batches:
                with suppress(_Enough):
                    model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [sums[layer] / counts[layer] for layer in layers], [squares[layer] / counts[layer] for layer in layers]


def _in_order_of_use(federation: Federation) -> list[str]:
    order: list[str] = []
    handles = [
        layer.register_forward_pre_hook(lambda _layer, _inputs, name=name: order.append(name))
        for name, layer in norm_layers(federation.model).items()
    ]
    federation.model.train()
    with torch.inference_mode():
        federation.model(torch.zeros(2, *federation.dataset.shape, device=federation.workers.device))
    for handle in handles:
        handle.remove()
    return order


def _training_loss(federation: Federation) -> float:
    """Mean loss with static statistics over the training clients' training pictures."""
    loss = torch.zeros(1, device=federation.workers.device)
    total = ReproducibleSum([loss])
    for client in _my_training_clients(federation):
        indices = federation.clients.train[client]
        _, loss_sum = score(federation, indices, "static", "train")
        total.add([loss + loss_sum / len(indices)], weight=len(indices))
    federation.workers.add_up(total.buffer)
    return float(total.mean()[0])


def _my_training_clients(federation: Federation) -> list[int]:
    training = federation.clients.training
    return federation.workers.share(training, [len(federation.clients.train[client]) for client in training])
