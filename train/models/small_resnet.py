"""ResNets for small pictures: torchvision's, with a stem that keeps the size of the picture."""

from __future__ import annotations

from torch import nn

from fbkit.train.models.zoo import torchvision_model


def small_resnet(name: str, channels: int, classes: int) -> nn.Module:
    """``resnet18-small`` or ``resnet50-small``: a 3x3 stem of stride 1, and no maximum after it."""
    model = torchvision_model(name.removesuffix("-small"), classes)
    stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts its own
    model.conv1 = stem
    model.maxpool = nn.Identity()
    return model
