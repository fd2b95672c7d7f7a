"""A body as devices need it: with fewer layers, and without normalisation that a convolution can do."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from fbkit.train.models import norm_layers

_PAIRS = {(nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d)}


def fold_body(body: nn.Module) -> nn.Module:
    """A copy of ``body``, in eval mode, that computes the same with fewer layers.

    A normalisation layer that does not follow a convolution stays, with its static statistics.
    """
    static = copy.deepcopy(body).eval()
    _compute_weights(static)
    _put_relu_before_maxima(static)
    for layer in norm_layers(static).values():
        layer.track_running_stats = True  # else it would normalise by the batch
    try:
        traced = fx.symbolic_trace(static)
    except Exception:  # noqa: BLE001  a forward can raise anything where it is given no tensors
        folded: nn.Module = static  # the layers stay, with their static statistics
    else:
        folded = _fold(traced)
    # What XNNPACK's lowering expects of weights.
    folded.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stubs lack this form
    return folded


def _fold(traced: fx.GraphModule) -> fx.GraphModule:
    """Fold normalisation into the convolution before it, where nothing else calls or reads one of the two.

    torch's own ``fuse`` does not look for that: where a layer is called twice, it folds twice.
    """
    uses = Counter(
        str(node.target) if node.op == "call_module" else str(node.target).rpartition(".")[0]
        for node in traced.graph.nodes
        if node.op in ("call_module", "get_attr")
    )
    for node in list(traced.graph.nodes):
        before: Any = node.args[0] if node.args else None
        if not (_is_only_call(node, uses) and _is_only_call(before, uses)) or len(before.users) > 1:
            continue
        layers: list[Any] = [traced.get_submodule(str(call.target)) for call in (before, node)]
        if tuple(map(type, layers)) in _PAIRS:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(*layers))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    return fx.GraphModule(traced, traced.graph)  # with those modules only that are still called


def _is_only_call(node: object, uses: Counter[str]) -> bool:
    return isinstance(node, fx.Node) and node.op == "call_module" and uses[str(node.target)] == 1


def _compute_weights(body: nn.Module) -> None:
    """Once and for all, where torch's ``weight_norm`` or the like would do so at each call.

    As torch's ``remove_parametrizations``, which also changes the class, and so the layer that this one is a copy of.
    """
    for layer in list(body.modules()):
        if is_parametrized(layer):
            weights = {name: getattr(layer, name).detach() for name in layer.parametrizations}  # type: ignore[union-attr]
            del layer.parametrizations
            layer.__class__ = layer.__class__.__bases__[0]
            for name, values in weights.items():
                layer.register_parameter(name, nn.Parameter(values))


def _put_relu_before_maxima(body: nn.Module) -> None:
    """Swap a maximum and the ReLU after it, which changes no value: runtimes make a ReLU part of the layer before."""
    for module in body.modules():
        if isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                first, second = module[place], module[place + 1]
                if isinstance(first, nn.MaxPool2d) and isinstance(second, nn.ReLU):
                    module[place], module[place + 1] = nn.ReLU(), first
