"""Normalisation: by the batch as the paper, by running statistics, or by groups of channels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def norm_layers(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """Every layer that normalises by batch statistics while training, by its name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, NORMS)}


def judge_by(model: nn.Module, statistics: Literal["static", "batch"]) -> None:
    """Put the model into eval mode, with normalisation by the batch or by static statistics. No statistics move."""
    model.eval()
    for layer in norm_layers(model).values():
        layer.train(statistics == "batch")


def set_static_statistics(model: nn.Module, statistics: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Give normalisation layers the mean and variance for eval mode; in train mode the batch still counts."""
    layers = norm_layers(model)
    for name, (mean, variance) in statistics.items():
        layers[name].running_mean = mean.clone()
        layers[name].running_var = variance.clone()


def set_norms(model: nn.Module, kind: Literal["batch", "running", "group"]) -> None:
    """Make every BatchNorm inside ``model`` one of ``kind``, in place; scale and shift stay as they are.

    ``batch``: by the batch, always, until it is given static statistics for eval mode. ``running``: by the batch in
    train mode, with running statistics for eval mode, which move only where ``track_running_stats`` is switched on.
    ``group``: by groups of channels of each picture.
    """
    if kind == "group":
        _replace_by_groups(model)
        return
    for layer in norm_layers(model).values():
        layer.track_running_stats = False  # judging must not move them; a round of training switches it on
        if kind == "batch":
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        elif layer.running_mean is None:
            device = None if layer.weight is None else layer.weight.device
            layer.running_mean = torch.zeros(layer.num_features, device=device)
            layer.running_var = torch.ones(layer.num_features, device=device)
            layer.num_batches_tracked = torch.tensor(0, device=device)


def group_count(channels: int) -> int:
    """The largest divisor of ``channels`` up to 32 that leaves at least two channels a group (a lone one is alone)."""
    return next(groups for groups in range(max(1, min(32, channels // 2)), 0, -1) if channels % groups == 0)


def _replace_by_groups(model: nn.Module) -> None:
    made: dict[nn.Module, nn.GroupNorm] = {}  # a layer that is used in two places stays one
    for parent in list(model.modules()):
        for name, layer in list(parent._modules.items()):
            if not isinstance(layer, NORMS):
                continue
            if layer not in made:
                groups = nn.GroupNorm(
                    group_count(layer.num_features), layer.num_features, eps=layer.eps, affine=layer.affine
                )
                if layer.affine:
                    groups.weight, groups.bias = layer.weight, layer.bias
                made[layer] = groups
            parent._modules[name] = made[layer]
