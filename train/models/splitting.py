"""Any module cut in two before its last linear layer."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fbkit.errors import UserError, describe
from fbkit.train.models.split_model import SplitModel

BY_HAND = "name the layer with model.head"


@dataclass(frozen=True)
class _Found:
    """The head, what it was called with, and what it gave."""

    name: str
    layer: nn.Linear
    features: Tensor
    logits: Tensor


def split(module: nn.Module, classes: int, shape: tuple[int, int, int], label: str, head_name: str = "") -> SplitModel:
    """Cut ``module`` before the linear layer whose output is the module's; it becomes the body, in place.

    The layer is the last one called, or the one at ``head_name`` (``classifier.3``). It is kept with its start where it
    is a plain nn.Linear with ``classes`` outputs; else a new one is drawn from torch's generator.

    Args:
        shape: channels, height and width of a picture.
        label: what messages call the module.

    Raises:
        UserError: the module cannot take such pictures, has no such layer, or does more after it.
    """
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise UserError(f"{label}: its parameter {name} is {parameter.dtype}; fbkit trains torch.float32")
    images = made_up_pictures(shape)
    module.eval()  # no dropout, and no running statistics change
    found = _find_head(module, images, shape, label, head_name)
    features = list(found.features.shape)
    if len(features) != 2 or features[0] != len(images):
        raise UserError(
            f"{label}: its linear layer {found.name} takes {features} for {len(images)} pictures; "
            "the head must take [pictures, features]"
        )
    parent, _, place = found.name.rpartition(".")
    setattr(module.get_submodule(parent), place, nn.Identity())
    if {id(values) for values in found.layer.parameters()} & {id(values) for values in module.parameters()}:
        raise UserError(f"{label}: its linear layer {found.name} shares weights with the body; a head has its own")
    _verify(module, found, images, label)
    head = found.layer if _is_plain(found.layer, classes) else nn.Linear(found.layer.in_features, classes)
    return SplitModel(module, head, found.name).train()


def check_pictures(model: SplitModel, shape: tuple[int, int, int], label: str) -> None:
    """Raise UserError where a batch of two pictures cannot be trained on; ``model`` stays as it is."""
    _run(copy.deepcopy(model).train(), made_up_pictures(shape), shape, label)


def made_up_pictures(shape: tuple[int, int, int]) -> Tensor:
    """Two pictures of noise, float32 [2, C, H, W], the same ones always; torch's generator is left alone."""
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


def _run(module: nn.Module, images: Tensor, shape: tuple[int, int, int], label: str) -> Tensor:
    try:
        with torch.no_grad():
            output = module(images)
    except Exception as error:
        size = "x".join(map(str, shape))
        raise UserError(f"{label}: cannot take two pictures of {size} ({describe(error)})") from error
    if not isinstance(output, Tensor):
        raise UserError(f"{label}: its output is a {type(output).__name__}, not a tensor of logits")
    return output


def _find_head(module: nn.Module, images: Tensor, shape: tuple[int, int, int], label: str, head_name: str) -> _Found:
    """The linear layer that was called last, or is named; its output is the module's."""
    linear = {name: layer for name, layer in module.named_modules() if name and isinstance(layer, nn.Linear)}
    if not linear:
        raise UserError(f"{label}: has no linear layer (nn.Linear); the last layer must be one, it becomes the head")
    if head_name and head_name not in linear:
        raise UserError(
            f"model.head = '{head_name}' is no linear layer of {label}; its last ones: {', '.join(list(linear)[-3:])}"
        )
    calls: list[_Found] = []

    def record(name: str, layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(_Found(name, layer, inputs[0], output.clone()))  # cloned: what follows may work in place

    watched = {head_name: linear[head_name]} if head_name else linear
    handles = [layer.register_forward_hook(partial(record, name)) for name, layer in watched.items()]
    try:
        output = _run(module, images, shape, label)
    finally:
        for handle in handles:
            handle.remove()
    if not calls:
        raise UserError(
            f"{label}: {head_name or 'no linear layer'} {'is not' if head_name else 'is'} called as a layer; {BY_HAND}"
        )
    if not torch.isfinite(output).all():
        raise UserError(f"{label}: its output for a picture of noise is not finite")
    if not _same(calls[-1].logits, output):
        raise UserError(
            f"{label}: its output is not that of its last linear layer {calls[-1].name}; "
            f"{BY_HAND}, and leave softmax and the like to the loss"
        )
    return calls[-1]


def _verify(body: nn.Module, found: _Found, images: Tensor, label: str) -> None:
    problem = f"{label}: its output is not that of its last linear layer {found.name} on what the rest gives"
    try:
        with torch.no_grad():
            logits = found.layer(body(images))
    except Exception as error:
        raise UserError(f"{problem} ({describe(error)}); {BY_HAND}") from error
    if not _same(logits, found.logits):
        raise UserError(f"{problem}; {BY_HAND}")


def _same(one: Tensor, other: Tensor) -> bool:
    """Equal but for rounding, which may differ where torch chooses another kernel."""
    scale = float(other.abs().max()) if other.numel() else 0.0
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5 * scale)


def _is_plain(layer: nn.Linear, classes: int) -> bool:
    """A head that can be kept: a subclass, a parametrized layer or one with hooks computes something more."""
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    return type(layer) is nn.Linear and layer.out_features == classes and layer.bias is not None and not hooks
