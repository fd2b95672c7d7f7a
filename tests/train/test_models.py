from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from fbkit.errors import UserError
from fbkit.train.models import SplitModel, build_model, check_model_name, model_size
from fbkit.train.models.names import SMALL, TORCHVISION
from fbkit.train.recipe import ModelRecipe
from fbkit.train.vision import import_torchvision

# Parameters of body and head, and the width of the features, for three channels and ten classes. The sums for the
# CIFAR nets are those of the implementation that most papers use (github.com/kuangliu/pytorch-cifar); torchvision
# publishes its own.
SIZES = {
    "conv4": (113088, 2570, 256),
    "mobilenet": (3217226 - 10250, 10250, 1024),
    "resnet18-small": (11173962 - 5130, 5130, 512),
    "resnet50-small": (23520842 - 20490, 20490, 2048),
    "mobilenet_v2": (3504872 - 1281000, 12810, 1280),
    "mobilenet_v3_small": (2542856 - 1025000, 10250, 1024),
    "mobilenet_v3_large": (5483032 - 1281000, 12810, 1280),
    "efficientnet_b0": (5288548 - 1281000, 12810, 1280),
    "resnet18": (11689512 - 513000, 5130, 512),
    "resnet50": (25557032 - 2049000, 20490, 2048),
    "shufflenet_v2_x1_0": (2278604 - 1025000, 10250, 1024),
}


def plain_conv4(seed: int) -> nn.Sequential:
    """The 4-conv net of width 8 for 28x28 pictures, by hand."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for channels, padding in ((1, 0), (8, 0), (8, 1), (8, 0)):  # 28, 14, 7 (padded to 8), 4
        layers += [
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.BatchNorm2d(8, track_running_stats=False),
            nn.ReLU(),
            nn.MaxPool2d(2, padding=padding),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10))


@pytest.mark.parametrize(("side", "features"), [(28, 256), (32, 256), (64, 1024), (8, 64)])
def test_the_4_conv_net_ends_in_the_papers_features(side: int, features: int) -> None:
    model = build_model(ModelRecipe(), (1, side, side), 10, seed=0)
    assert model.head.in_features == features
    assert model.body(torch.zeros(2, 1, side, side)).shape == (2, features)


def test_the_4_conv_net_starts_and_computes_as_the_same_layers_by_hand() -> None:
    model, plain = build_model(ModelRecipe(width=8), (1, 28, 28), 10, seed=5), plain_conv4(5)
    assert list(model.body.state_dict()) == list(plain[:-1].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    images = torch.randn(4, 1, 28, 28)
    torch.testing.assert_close(model(images), plain(images))


def test_the_start_depends_on_the_seed_alone() -> None:
    recipe = ModelRecipe(name="mobilenet")
    first = build_model(recipe, (1, 28, 28), 10, seed=5)
    torch.rand(3)
    again = build_model(recipe, (1, 28, 28), 10, seed=5)
    other = build_model(recipe, (1, 28, 28), 10, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("name", ["conv4", "mobilenet_v2"])
def test_building_leaves_the_callers_random_numbers_alone(name: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    build_model(ModelRecipe(name=name), (3, 32, 32), 10, seed=5)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", [*SMALL, *TORCHVISION])
def test_every_model_has_its_published_size_and_takes_small_pictures(name: str) -> None:
    model = build_model(ModelRecipe(name=name), (3, 32, 32), 10, seed=0)
    assert model_size(model) == SIZES[name]
    with torch.no_grad():
        assert model.train()(torch.randn(2, 3, 32, 32)).shape == (2, 10)
        features = model.eval().body(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, SIZES[name][2])
    assert all(values.is_contiguous(memory_format=torch.channels_last) for values in four_dimensional(model))


def four_dimensional(model: SplitModel) -> list[Tensor]:
    return [values for values in model.parameters() if values.dim() == 4]


@pytest.mark.parametrize("name", TORCHVISION)
def test_body_and_head_compute_what_torchvisions_whole_model_does(name: str) -> None:
    import_torchvision()
    from torchvision.models import get_model

    model = build_model(ModelRecipe(name=name, norm="running"), (3, 64, 64), 10, seed=3).eval()
    torch.manual_seed(3)
    whole = get_model(name, num_classes=10).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = whole(images)
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["mobilenet", "resnet18-small"])
def test_models_for_small_pictures_keep_their_size_in_the_stem(name: str) -> None:
    model = build_model(ModelRecipe(name=name), (1, 28, 28), 10, seed=0)
    seen: list[tuple[int, ...]] = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(tuple(output.shape)))
    model(torch.randn(2, 1, 28, 28))
    assert seen[0][2:] == seen[1][2:] == (28, 28)
    assert seen[-1][2:] == ((2, 2) if name == "mobilenet" else (4, 4))  # halved four times, or three


def test_torchvisions_models_refuse_grey_pictures() -> None:
    with pytest.raises(UserError, match=r"'resnet18': takes 3 channels, the pictures have 1; set data.channels = 3"):
        build_model(ModelRecipe(name="resnet18"), (1, 32, 32), 10, seed=0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet18_small", "did you mean resnet18-small"),
        ("moblienet", "did you mean mobilenet"),
        ("zzz", "known are conv4, mobilenet"),
        ("my_pkg.nets:", "write it as my_pkg.nets:Net"),
        ("my pkg:Net", "write it as my_pkg.nets:Net"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_model_name(name)
    with pytest.raises(UserError, match=said):
        build_model(ModelRecipe(name=name), (3, 32, 32), 10, seed=0)


def test_names_are_checked_without_torch() -> None:
    code = "import sys, fbkit.train.models; fbkit.train.models.check_model_name('a.b:C'); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "False", result.stderr
