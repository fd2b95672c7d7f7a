"""Models, each a body (images to features) and a linear head (features to logits)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SplitModel(nn.Module):
    """body: float32 [B, C, H, W] to features [B, F]; head: features to logits [B, classes]."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images))
        return logits


@dataclass(frozen=True)
class Body:
    module: nn.Module
    features: int


def conv4(shape: tuple[int, int, int], width: int) -> Body:
    """The paper's 4-conv net: four times convolution, normalisation, ReLU and 2x2 maximum.

    Its 32x32 pictures end in maps of 2x2. So do smaller ones here: a map with an odd side is padded before it is
    halved, so 28x28 keeps the paper's feature width.
    """
    channels, height, width_pixels = shape
    layers: list[nn.Module] = []
    for _ in range(4):
        padding = (height % 2, width_pixels % 2)
        layers += [
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width, track_running_stats=False),
            nn.ReLU(),
            nn.MaxPool2d(2, padding=padding),
        ]
        channels, height, width_pixels = width, (height + padding[0]) // 2, (width_pixels + padding[1]) // 2
    return Body(nn.Sequential(*layers, nn.Flatten()), width * height * width_pixels)


BODIES: dict[str, Callable[[tuple[int, int, int], int], Body]] = {"conv4": conv4}


def build_model(name: str, width: int, shape: tuple[int, int, int], classes: int, seed: int) -> SplitModel:
    """Make a model with its random start drawn from ``seed`` alone; the caller's generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = BODIES[name](shape, width)
        head = nn.Linear(body.features, classes)
    model = SplitModel(body.module, head)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this form
    return model


def norm_layers(model: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """Every layer that normalises by batch statistics while training, by its name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, NORMS)}


def set_static_statistics(model: nn.Module, statistics: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Give normalisation layers the mean and variance for eval mode; in train mode the batch still counts."""
    layers = norm_layers(model)
    for name, (mean, variance) in statistics.items():
        layers[name].running_mean = mean.clone()
        layers[name].running_var = variance.clone()
