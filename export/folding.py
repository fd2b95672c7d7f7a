"""A body without normalisation layers: static statistics are folded into the convolutions before them."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from fbkit.train.models import norm_layers


def fold_body(body: nn.Module) -> nn.Module:
    """A copy of ``body``, in eval mode, that computes the same with fewer layers.

    A normalisation layer that does not follow a convolution stays, with its static statistics.
    """
    static = copy.deepcopy(body).eval()
    _put_relu_before_maxima(static)
    for layer in norm_layers(static).values():
        layer.track_running_stats = True  # else the fusion takes it for one that normalises by the batch
    try:
        folded: nn.Module = fuse(static)
    except (TraceError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        folded = static  # a forward that cannot be traced; the layers stay, with their static statistics
    # What XNNPACK's lowering expects of weights.
    folded.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stubs lack this form
    return folded


def _put_relu_before_maxima(body: nn.Module) -> None:
    """Swap a maximum and the ReLU after it, which changes no value: runtimes make a ReLU part of the layer before."""
    for module in body.modules():
        if isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                first, second = module[place], module[place + 1]
                if isinstance(first, nn.MaxPool2d) and isinstance(second, nn.ReLU):
                    module[place], module[place + 1] = nn.ReLU(), first
