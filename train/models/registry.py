"""A recipe's model: found by name, cut in two, normalised and started as the recipe says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fbkit.errors import UserError
from fbkit.train.models.conv4 import conv4
from fbkit.train.models.init import initialise
from fbkit.train.models.mobilenet import mobilenet
from fbkit.train.models.names import TORCHVISION, check_model_name, is_import_path
from fbkit.train.models.norms import set_norms
from fbkit.train.models.small_resnet import small_resnet
from fbkit.train.models.split_model import SplitModel
from fbkit.train.models.splitting import check_pictures, split
from fbkit.train.models.user_module import find_maker, make_module
from fbkit.train.models.zoo import torchvision_model
from fbkit.train.recipe import ModelRecipe


def build_model(recipe: ModelRecipe, shape: tuple[int, int, int], classes: int, seed: int) -> SplitModel:
    """Make a model with its random start drawn from ``seed`` alone; the caller's generator is left as it was.

    Args:
        shape: channels, height and width of a picture.

    Raises:
        UserError: no such model, it cannot take such pictures or cannot be split, its weights do not fit.
    """
    make = _maker(recipe, shape, classes)
    label = f"model.name = '{recipe.name}'"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = split(make(), classes, shape, label, recipe.head)
        set_norms(model.body, recipe.norm)
        check_pictures(model, shape, label)
    initialise(model, recipe)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    return model


def _maker(recipe: ModelRecipe, shape: tuple[int, int, int], classes: int) -> Callable[[], nn.Module]:
    """What makes the whole module; a user's is imported here, lest its import draw from the seed the first time."""
    name, channels = recipe.name, shape[0]
    try:
        check_model_name(name)
    except ValueError as error:
        raise UserError(str(error)) from error
    if is_import_path(name):
        maker = find_maker(name)
        return lambda: make_module(maker, name, classes)
    if name in TORCHVISION:
        if channels != 3:
            raise UserError(
                f"model.name = '{name}': takes 3 channels, the pictures have {channels}; set data.channels = 3"
            )
        return lambda: torchvision_model(name, classes)
    if name == "conv4":
        return lambda: conv4(shape, recipe.width, classes)
    if name == "mobilenet":
        return lambda: mobilenet(channels, classes)
    return lambda: small_resnet(name, channels, classes)
