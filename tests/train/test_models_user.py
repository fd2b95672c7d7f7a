"""A user's own modules, from a package on disk."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fbkit.errors import UserError
from fbkit.train.models import SplitModel, build_model, norm_layers
from fbkit.train.recipe import ModelRecipe

SHAPE = (1, 8, 8)
CLASSES = 5
NETS = '''
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class Net(nn.Module):
    def __init__(self, num_classes=7):
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        nn.init.constant_(self.norm.weight, 0.5)
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Linear(6 * 64, 12), nn.ReLU(), nn.Linear(12, num_classes))

    def forward(self, x):
        return self.classifier(self.norm(self.first(x)).relu().flatten(1))


class Seven(Net):
    def __init__(self):
        super().__init__()


class NoBias(Seven):
    def __init__(self):
        super().__init__()
        self.classifier[3] = nn.Linear(12, 5, bias=False)


class Parametrized(Seven):
    def __init__(self):
        super().__init__()
        self.classifier[3] = weight_norm(nn.Linear(12, 5))


class Zeros(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        nn.init.zeros_(self.classifier[3].weight)


class Softmax(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Tail(Net):
    """A layer is called after the head, and does not count for the output."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.tail = nn.Linear(12, 3)

    def forward(self, x):
        features = self.classifier[:3](self.norm(self.first(x)).relu().flatten(1))
        logits = self.classifier[3](features)
        self.seen = self.tail(features)
        return logits


class Scaled(Net):
    """What comes before the last layer depends on the last layer."""

    def forward(self, x):
        head = self.classifier[3]
        return head(self.classifier[:3](self.norm(self.first(x)).relu().flatten(1)) * head.weight.sum())


class Skip(Net):
    """The head of one branch is the output; the other branch is switched by what the head gives."""

    def forward(self, x):
        first = super().forward(x)
        if first.shape[1] != 5:
            first = first[:, :5]
        return self.classifier(self.norm(self.first(x + first.sum())).relu().flatten(1))


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        return self.fc(x)


class NoLinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 5, 8)

    def forward(self, x):
        return self.conv(x).flatten(1)


class Unused(Maps):
    def forward(self, x):
        return x.flatten(1)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(64, 64)
        self.two = nn.Linear(64, 64)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(x.flatten(1)))


class Double(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.double()


class Big(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.classifier[1] = nn.Linear(1000, 12)


class Two(Net):
    def forward(self, x):
        return super().forward(x), x


class Failing(nn.Module):
    def __init__(self, depth):
        super().__init__()


class Outer:
    Inner = Net


def lazy(**kwargs):
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(kwargs["num_classes"]))


def number():
    return 3


made = Seven()
seven = 7
'''


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package ``userpkg`` in the current directory."""
    folder = tmp_path / "userpkg"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "nets.py").write_text(NETS)
    (folder / "broken.py").write_text("import numpy\nimport not_there\n")
    (folder / "wrong.py").write_text("raise RuntimeError('no\\nlicence')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in sys.modules if name.split(".")[0] == "userpkg"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def build(name: str, head: str = "", norm: str = "running", path: str = "userpkg.nets") -> SplitModel:
    recipe = ModelRecipe.model_validate({"name": f"{path}:{name}", "head": head, "norm": norm})
    return build_model(recipe, SHAPE, CLASSES, seed=2)


def test_the_last_linear_layer_becomes_the_head(package: Path) -> None:
    model = build("Net")
    assert package.parent == Path.cwd()
    assert model.head_name == "classifier.3" and model.head.out_features == CLASSES
    torch.manual_seed(2)
    net = importlib.import_module("userpkg.nets").Net
    whole, images = net(CLASSES), torch.randn(4, *SHAPE)
    torch.testing.assert_close(model.eval()(images), whole.eval()(images))
    whole.classifier[0] = nn.Identity()
    model.body.get_submodule("classifier")[0] = nn.Identity()  # type: ignore[operator]
    torch.testing.assert_close(model.train()(images), whole.train()(images))


@pytest.mark.parametrize("name", ["Seven", "NoBias", "Parametrized"])
def test_a_head_that_does_not_fit_is_drawn_after_the_body(name: str) -> None:
    model = build(name)
    assert type(model.head) is nn.Linear and model.head.bias is not None
    assert (model.head.in_features, model.head.out_features) == (12, CLASSES)
    torch.manual_seed(2)
    getattr(importlib.import_module("userpkg.nets"), name)()
    expected = nn.Linear(12, CLASSES)
    assert torch.equal(model.head.weight, expected.weight) and torch.equal(model.head.bias, expected.bias)


def test_a_head_that_fits_keeps_the_start_its_author_gave_it() -> None:
    assert not build("Zeros").head.weight.any()


def test_the_head_can_be_named() -> None:
    with pytest.raises(UserError, match=r"not that of its last linear layer tail; name the layer with model.head"):
        build("Tail")
    assert build("Tail", head="classifier.3").head_name == "classifier.3"


@pytest.mark.parametrize("norm", ["batch", "running", "group"])
def test_normalisation_is_the_recipes(norm: str) -> None:
    model = build("Net", norm=norm)
    layers = norm_layers(model)
    assert bool((model.body.state_dict()["norm.weight"] == 0.5).all())
    assert list(layers) == ([] if norm == "group" else ["body.norm"])
    assert not any(layer.track_running_stats for layer in layers.values())
    assert ("norm.running_mean" in model.body.state_dict()) == (norm == "running")


def test_inner_classes_functions_and_lazy_layers_are_found() -> None:
    assert build("Outer.Inner").head.in_features == 12
    assert build("lazy").head.in_features == 4 * 36
    first, again = build("lazy"), build("lazy")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Softmax", "its output is not that of its last linear layer classifier.3; .*leave softmax"),
        ("Scaled", "classifier.3 on what the rest gives .AttributeError.*; name the layer with model.head"),
        ("Skip", "classifier.3 on what the rest gives; name the layer with model.head"),
        ("Maps", r"its linear layer fc takes \[2, 1, 8, 8\] for 2 pictures"),
        ("NoLinear", "has no linear layer"),
        ("Unused", "no linear layer is called as a layer"),
        ("Shared", "its linear layer two shares weights with the body"),
        ("Double", "its parameter first.weight is torch.float64"),
        ("Big", r"cannot take two pictures of 1x8x8 \(RuntimeError: mat1 and mat2"),
        ("Two", "its output is a tuple"),
        ("Failing", r"Failing\(\) fails \(TypeError: .*depth"),
        ("number", r"number\(\) gives a int, not a torch.nn.Module"),
        ("made", "made is a Seven; name a subclass of torch.nn.Module"),
        ("seven", "seven is a int; name a subclass of torch.nn.Module"),
        ("Nett", "userpkg.nets has no Nett"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(name: str, said: str) -> None:
    with pytest.raises(UserError, match=f"^model.name = 'userpkg.nets:{name}': .*{said}"):
        build(name)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("userpkg.net", "there is no module userpkg.net in"),
        ("userpkgs.nets", "there is no module userpkgs in"),
        ("userpkg.broken", "importing userpkg.broken fails .ModuleNotFoundError: No module named 'not_there'"),
        ("userpkg.wrong", r"importing userpkg.wrong fails .RuntimeError: no\)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(path: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build("Net", path=path)


def test_an_unknown_head_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"model.head = 'fc' is no linear layer of .*: classifier.1, classifier.3"):
        build("Net", head="fc")
    with pytest.raises(UserError, match=r"last linear layer classifier.1"):
        build("Net", head="classifier.1")
