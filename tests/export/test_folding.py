from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from fbkit.export.folding import fold_body
from fbkit.train.models import build_model, norm_layers, set_static_statistics
from fbkit.train.recipe import ModelRecipe


def test_a_relu_after_a_maximum_comes_before_it_on_the_device() -> None:
    body = build_model(ModelRecipe(width=4), (1, 28, 28), 3, seed=0).body
    set_static_statistics(body, {name: (torch.zeros(4), torch.ones(4)) for name in norm_layers(body)})
    folded = fold_body(body)
    kinds = [type(module).__name__ for module in folded.modules() if isinstance(module, nn.ReLU | nn.MaxPool2d)]
    assert kinds == ["ReLU", "MaxPool2d"] * 4
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(folded(images), body.eval()(images), rtol=0, atol=1e-5)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.first(self.convolution(images))
        return maps


class TwoNorms(Pair):
    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.second(super().forward(images))
        return maps


class ConvolutionTwice(Pair):
    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.second(self.convolution(super().forward(images)))
        return maps


class BothTwice(Pair):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(super().forward(images).relu())


class NormTwice(Pair):
    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.first(super().forward(images))
        return maps


class MapsReadTwice(Pair):
    def forward(self, images: Tensor) -> Tensor:
        maps = self.convolution(images)
        sum_of_both: Tensor = maps + self.first(maps)
        return sum_of_both


class WeightReadTwice(Pair):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + nn.functional.conv2d(images, self.convolution.weight, padding=1)


class WithWeightNorm(Pair):
    def __init__(self) -> None:
        super().__init__()
        weight_norm(self.convolution)


class CannotBeTraced(Pair):
    def forward(self, images: Tensor) -> Tensor:
        return {3: super().forward(images)}[images.shape[1]]


@pytest.mark.parametrize(
    ("kind", "norms"),
    [
        (Pair, 0),
        (TwoNorms, 0),
        (WithWeightNorm, 0),
        (ConvolutionTwice, 2),
        (BothTwice, 1),
        (NormTwice, 1),
        (MapsReadTwice, 1),
        (WeightReadTwice, 1),
        (CannotBeTraced, 2),  # as it was: the second is not called
    ],
)
def test_a_norm_is_folded_once_or_not_at_all(kind: type[Pair], norms: int) -> None:
    generator = torch.Generator().manual_seed(0)
    body = kind()
    for values in body.state_dict().values():
        if values.is_floating_point():
            values.uniform_(0.5, 2, generator=generator)
    folded = fold_body(body)
    assert len(norm_layers(folded)) == norms
    images = torch.randn(2, 3, 8, 8, generator=generator)
    expected = body.eval()(images)
    torch.testing.assert_close(folded(images), expected, rtol=0, atol=1e-5 * expected.abs().max().item())
