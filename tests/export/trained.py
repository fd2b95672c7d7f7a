"""Bodies to lower: every model of the registry and one of somebody's own, trained for a moment.

At their random start most deep networks are chaotic: they make a difference of 1e-7 between two pictures, or of a
rounding to 8 bits, a hundred times as large. Some steps of training make them look at the pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, hardsigmoid, interpolate
from torch.nn.utils.parametrizations import weight_norm

from fbkit.export.folding import fold_body
from fbkit.export.target import Request
from fbkit.train.models import SplitModel, build_model, norm_layers, split
from fbkit.train.models.names import SMALL, TORCHVISION
from fbkit.train.recipe import DataRecipe, ModelRecipe
from fbkit.train.sources import load_dataset

OWN, GROUPS = "own", "conv4 with groups"
EVERY = (OWN, *SMALL, *TORCHVISION, GROUPS)
CLASSES = 10
FEATURES = 16  # of the own model
STEPS = 60


class Own(nn.Module):
    """What exporters stumble on: a branch on a shape, which cannot be traced, so that normalisation is not folded;
    layers called twice; weights that are computed; squeeze-and-excitation in functions; ReLU6, Hardswish, a sum of
    branches, an odd mean.
    """

    def __init__(self) -> None:
        super().__init__()
        convolution = weight_norm(nn.Conv2d(3, FEATURES, 3, 2, 1, bias=False))
        self.stem = nn.Sequential(convolution, nn.BatchNorm2d(FEATURES), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(FEATURES, FEATURES, 3, padding=1, groups=FEATURES, bias=False),
            nn.BatchNorm2d(FEATURES),
            nn.Hardswish(),
        )
        self.squeeze = nn.Conv2d(FEATURES, FEATURES, 1)
        self.mix = nn.Sequential(
            nn.Conv2d(FEATURES, FEATURES, 1, bias=False), nn.BatchNorm2d(FEATURES), nn.ReLU6(inplace=True)
        )
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.stem(images)
        if maps.shape[2] < maps.shape[3]:
            maps = maps.transpose(2, 3)
        details = self.depthwise(maps)
        maps = maps + details * hardsigmoid(self.squeeze(adaptive_avg_pool2d(details, 1)))
        logits: Tensor = self.classifier(self.mix(self.mix(maps)).mean((2, 3)))
        return logits


@dataclass(frozen=True)
class Trained:
    """A model in eval mode with static statistics, its body folded, and pictures.

    calibration, unseen: float32 [N, C, H, W], normalised.
    """

    name: str
    model: SplitModel
    folded: nn.Module
    calibration: Tensor
    unseen: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.unseen.shape[1:]
        return channels, height, width

    def request(self, precision: str = "fp32", keep_float: tuple[str, ...] = (), with_model: bool = False) -> Request:
        calibration = self.calibration if precision == "int8" else None
        return Request(
            self.folded, self.model.head, self.shape, CLASSES + 5, precision, calibration, keep_float, with_model
        )


def train_briefly(name: str) -> Trained:
    """The model of that name after STEPS steps of SGD on small embedded pictures."""
    channels, side = (1, 28) if name.startswith("conv4") else (3, 16 if name.endswith("-small") else 32)
    torch.manual_seed(0)
    model = _make(name, (channels, side, side))
    data = load_dataset(DataRecipe())
    images = interpolate((data.train.images[:2400].float() / 255 - 0.2860) / 0.3530, (side, side), mode="bilinear")
    images = images.expand(-1, channels, -1, -1).contiguous()
    rate = 0.01 if "50" in name else 0.02
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for step in range(STEPS):
        batch = slice(32 * step, 32 * (step + 1))
        loss = cross_entropy(model(images[batch]), data.train.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _set_statistics(model, images[:1000])
    return Trained(name, model, fold_body(model.body), images[:256], images[2000:])


def _make(name: str, shape: tuple[int, int, int]) -> SplitModel:
    if name == OWN:
        return split(Own(), CLASSES, shape, "own")
    recipe = (
        ModelRecipe(name="conv4", width=16, norm="group")
        if name == GROUPS
        else ModelRecipe(name=name, width=16, norm="running")
    )
    return build_model(recipe, shape, CLASSES, seed=0)


def _set_statistics(model: SplitModel, images: Tensor) -> None:
    """Static mean and variance of every normalisation layer: the mean over some batches."""
    for layer in norm_layers(model).values():
        layer.track_running_stats, layer.momentum = True, None
        layer.reset_running_stats()
    with torch.no_grad():
        for batch in images.split(100):
            model(batch)
    model.eval()
