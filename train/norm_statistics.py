"""Mean and variance of what normalisation layers see, gathered client by client."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn

from fbkit.train.federation import Federation
from fbkit.train.judging import mixed
from fbkit.train.models import judge_by, norm_layers
from fbkit.train.owned import sizes_of
from fbkit.train.reduction import ReproducibleSum
from fbkit.train.seeds import Purpose

Statistics = dict[str, tuple[Tensor, Tensor]]


class _Enough(Exception):
    """Ends a forward pass once the layer in question has been seen."""


def pooled_statistics(federation: Federation, layers: Sequence[str], static: Sequence[str]) -> Statistics:
    """Mean and variance of the inputs of ``layers`` over all training clients' pictures, exact up to rounding.

    The layers in ``static`` normalise by the statistics they have, all others by the batch.
    """
    workers = federation.workers
    modules = norm_layers(federation.model)
    channels = [torch.zeros(modules[layer].num_features, device=workers.device) for layer in layers]
    total = ReproducibleSum([*channels, *channels])
    judge_by(federation.model, "batch")
    for layer in static:
        modules[layer].eval()
    for client in my_training_clients(federation):
        means, squares = _client_means(federation, client, [modules[layer] for layer in layers])
        total.add([*means, *squares], weight=len(federation.clients.train[client]))
    workers.add_up(total.buffer)
    pooled = total.mean()
    return from_means(layers, pooled[: len(layers)], pooled[len(layers) :])


def client_statistics(federation: Federation, client: int) -> Statistics:
    """Mean and variance of the inputs of every normalisation layer over one client's training pictures, one pass."""
    layers = in_order_of_use(federation)
    if not layers:
        return {}
    judge_by(federation.model, "batch")
    modules = norm_layers(federation.model)
    return from_means(layers, *_client_means(federation, client, [modules[layer] for layer in layers]))


def from_means(layers: Sequence[str], means: Sequence[Tensor], squares: Sequence[Tensor]) -> Statistics:
    """Mean and variance from the mean input and the mean squared input of each layer."""
    return {
        layer: (mean.float(), (square - mean**2).clamp_min(0).float())
        for layer, mean, square in zip(layers, means, squares, strict=True)
    }


def _client_means(
    federation: Federation, client: int, layers: Sequence[nn.Module]
) -> tuple[list[Tensor], list[Tensor]]:
    """Per layer the mean input and the mean squared input of a channel, float64, over one client's pictures."""
    indices = mixed(federation, federation.clients.train[client], client, purpose=Purpose.CALIBRATION_ORDER)
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
            for images, _ in federation.batcher(augmented=False).plain(federation.dataset.train, indices):
                with suppress(_Enough):
                    federation.model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [sums[layer] / counts[layer] for layer in layers], [squares[layer] / counts[layer] for layer in layers]


def in_order_of_use(federation: Federation) -> list[str]:
    """The names of the normalisation layers, in the order in which a picture meets them."""
    order: list[str] = []
    handles = [
        layer.register_forward_pre_hook(lambda _layer, _inputs, name=name: order.append(name))
        for name, layer in norm_layers(federation.model).items()
    ]
    judge_by(federation.model, "batch")
    try:
        with torch.inference_mode():
            federation.model(torch.zeros(2, *federation.dataset.shape, device=federation.workers.device))
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))


def my_training_clients(federation: Federation) -> list[int]:
    """This worker's share of the clients that train."""
    training = federation.clients.training
    return federation.workers.share(training, sizes_of(federation.clients.train)[list(training)].tolist())
