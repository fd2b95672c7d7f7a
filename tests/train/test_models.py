from __future__ import annotations

import pytest
import torch

from fbkit.train.models import build_model, norm_layers, set_static_statistics


@pytest.mark.parametrize(("side", "features"), [(28, 256), (32, 256), (64, 1024), (8, 64)])
def test_the_4_conv_net_ends_in_the_papers_features(side: int, features: int) -> None:
    model = build_model("conv4", 64, (1, side, side), 10, seed=0)
    assert model.head.in_features == features
    assert model.body(torch.zeros(2, 1, side, side)).shape == (2, features)


def test_the_start_depends_on_the_seed_alone() -> None:
    first = build_model("conv4", 8, (1, 28, 28), 10, seed=5)
    torch.rand(3)
    again = build_model("conv4", 8, (1, 28, 28), 10, seed=5)
    other = build_model("conv4", 8, (1, 28, 28), 10, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build_model("conv4", 8, (1, 28, 28), 10, seed=5)
    assert torch.equal(torch.rand(1), expected)


def test_static_statistics_count_in_eval_mode_only() -> None:
    model = build_model("conv4", 4, (1, 16, 16), 3, seed=0)
    images = torch.randn(6, 1, 16, 16)
    by_batch = model.train()(images)
    set_static_statistics(model, {name: (torch.full((4,), 0.1), torch.full((4,), 2.0)) for name in norm_layers(model)})
    torch.testing.assert_close(model.train()(images), by_batch)
    static = model.eval()(images)
    assert not torch.allclose(static, by_batch)
    torch.testing.assert_close(model(images[:1]), static[:1])
