from __future__ import annotations

import torch
from torch import nn

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
