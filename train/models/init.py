"""Weights to start from: torchvision's, or a file's, in whatever of the usual layouts they come."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from fbkit.errors import UserError
from fbkit.train.models.names import TORCHVISION
from fbkit.train.models.split_model import SplitModel
from fbkit.train.models.zoo import pretrained_weights
from fbkit.train.recipe import PRETRAINED, ModelRecipe
from fbkit.train.weights import read_user_weights

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def initialise(model: SplitModel, recipe: ModelRecipe) -> None:
    """Give the model the start that ``recipe.init`` asks for, in place; "" leaves it at its random start.

    Raises:
        UserError: no such weights, or they do not fit the model.
    """
    if recipe.init == PRETRAINED:
        if recipe.name not in TORCHVISION:
            raise UserError(
                f"model.init = 'pretrained': there are no published weights for model.name = '{recipe.name}'; "
                "set model.init to a file of weights"
            )
        weights, origin = pretrained_weights(recipe.name)
        load_start(model, weights, origin)
    elif recipe.init:
        load_start(model, read_user_weights(Path(recipe.init)), recipe.init)


def load_start(model: SplitModel, weights: dict[str, Tensor], origin: str) -> None:
    """Copy ``weights`` into the model: the whole body, and the head where its shapes are the same.

    Names are those of the module before it was split, those of a body alone, or begin with ``body.`` and ``head.``.
    Running statistics may be missing, and are left out where the model keeps none.

    Raises:
        UserError: a body's weight is missing or of another shape, a name is unknown, a value is not finite.
    """
    body, head = model.body.state_dict(), model.head.state_dict()
    needed = [name for name in body if not _is_statistic(name)]
    layouts = [("", f"{model.head_name}."), ("body.", "head.")]
    in_body, in_head = max(layouts, key=lambda prefixes: sum(prefixes[0] + name in weights for name in needed))

    if missing := [in_body + name for name in needed if in_body + name not in weights]:
        raise UserError(f"{origin}: does not fit the model: {_some(missing)} missing")
    known = {in_body + name for name in body} | {in_head + name for name in head}
    if unknown := [name for name in weights if name not in known and not _is_statistic(name)]:
        raise UserError(f"{origin}: does not fit the model, which has no {_some(unknown)}")
    pairs = {in_body + name: values for name, values in body.items() if in_body + name in weights}
    for name, values in pairs.items():
        given = weights[name]
        if given.shape != values.shape or given.is_floating_point() != values.is_floating_point():
            raise UserError(
                f"{origin}: does not fit the model: {name} is {given.dtype} {list(given.shape)}, "
                f"the model's {values.dtype} {list(values.shape)}"
            )
    heads = {in_head + name: values for name, values in head.items()}
    if all(name in weights and weights[name].shape == values.shape for name, values in heads.items()):
        pairs |= heads

    converted = {name: weights[name].to(values.dtype) for name, values in pairs.items()}
    for name, values in converted.items():
        if not torch.isfinite(values).all():
            raise UserError(f"{origin}: {name} holds values that are not finite")
    with torch.no_grad():
        for name, values in converted.items():
            pairs[name].copy_(values)


def _is_statistic(name: str) -> bool:
    return name.rpartition(".")[2] in STATISTICS


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
