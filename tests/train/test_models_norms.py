from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fbkit.train.models import SplitModel, build_model, norm_layers, set_static_statistics
from fbkit.train.models.norms import group_count
from fbkit.train.recipe import ModelRecipe

SHAPE = (1, 16, 16)


def conv4(norm: str) -> SplitModel:
    return build_model(ModelRecipe.model_validate({"width": 4, "norm": norm}), SHAPE, 3, seed=0)


def plain_body(model: SplitModel, norms: list[nn.Module]) -> nn.Sequential:
    """The same weights with other normalisation layers, by hand."""
    layers: list[nn.Module] = []
    for place, norm in enumerate(norms):
        convolution = nn.Conv2d(1 if place == 0 else 4, 4, 3, padding=1)
        convolution.load_state_dict(model.body.get_submodule(str(4 * place)).state_dict())
        layers += [convolution, norm, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten())


def pictures(count: int = 6) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(count))


def test_static_statistics_count_in_eval_mode_only() -> None:
    model, images = conv4("batch"), pictures()
    by_batch = model.train()(images)
    assert torch.equal(model.eval()(images), by_batch)
    set_static_statistics(model, {name: (torch.full((4,), 0.1), torch.full((4,), 2.0)) for name in norm_layers(model)})
    torch.testing.assert_close(model.train()(images), by_batch)
    static = model.eval()(images)
    assert not torch.allclose(static, by_batch)
    torch.testing.assert_close(model(images[:1]), static[:1])
    for layer in norm_layers(model).values():
        assert layer.running_mean is not None and torch.equal(layer.running_mean, torch.full((4,), 0.1))


def test_batch_statistics_leave_nothing_behind() -> None:
    model = conv4("batch")
    before = {name: values.clone() for name, values in model.state_dict().items()}
    model.train()(pictures())
    assert model.state_dict().keys() == before.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_running_statistics_are_those_of_torchs_own_layers() -> None:
    model = conv4("running")
    plain = plain_body(model, [nn.BatchNorm2d(4) for _ in range(4)])
    assert plain.state_dict().keys() == model.body.state_dict().keys()
    before = model.body.state_dict()["1.running_mean"].clone()
    model.body.train()(pictures(6))
    assert torch.equal(model.body.state_dict()["1.running_mean"], before)  # they move only in a round of training
    for layer in norm_layers(model).values():
        layer.track_running_stats = True
    for count in (6, 5):
        torch.testing.assert_close(model.body.train()(pictures(count)), plain.train()(pictures(count)))
    for name, values in plain.state_dict().items():
        torch.testing.assert_close(model.body.state_dict()[name], values)
    torch.testing.assert_close(model.body.eval()(pictures(3)), plain.eval()(pictures(3)))


def test_building_leaves_running_statistics_at_their_start() -> None:
    model = build_model(ModelRecipe(name="resnet18-small", norm="running"), (1, 16, 16), 3, seed=0)
    for layer in norm_layers(model).values():
        assert layer.running_mean is not None and not layer.running_mean.any()
        assert layer.running_var is not None and bool((layer.running_var == 1).all())


def test_group_normalisation_looks_at_one_picture_alone() -> None:
    model, images = conv4("group"), pictures()
    plain = plain_body(model, [nn.GroupNorm(2, 4) for _ in range(4)])
    assert not norm_layers(model)
    torch.testing.assert_close(model.body.train()(images), plain(images))
    torch.testing.assert_close(model.body.eval()(images[:1]), plain(images)[:1])


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 32), (1024, 32), (48, 24), (58, 29), (4, 2), (2, 1), (1, 1), (7, 1), (24, 12)]
)
def test_groups_are_as_many_as_fit(channels: int, groups: int) -> None:
    assert group_count(channels) == groups


@pytest.mark.parametrize("norm", ["batch", "running", "group"])
def test_the_normalisation_does_not_change_the_start(norm: str) -> None:
    recipe = ModelRecipe.model_validate({"name": "shufflenet_v2_x1_0", "norm": norm})
    model, other = build_model(recipe, (3, 32, 32), 4, 1), build_model(ModelRecipe(name=recipe.name), (3, 32, 32), 4, 1)
    pairs = zip(model.named_parameters(), other.named_parameters(), strict=True)
    assert all(name == same and torch.equal(a, b) for (name, a), (same, b) in pairs)
    assert (norm == "group") == any(isinstance(layer, nn.GroupNorm) for layer in model.modules())
    assert (norm == "group") == (not norm_layers(model))
