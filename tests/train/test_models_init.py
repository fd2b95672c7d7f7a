"""Starting from given weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fbkit.errors import UserError
from fbkit.train.models import SplitModel, build_model
from fbkit.train.recipe import ModelRecipe
from fbkit.train.vision import import_torchvision
from fbkit.train.weights import save_weights

SHAPE = (1, 16, 16)
Weights = dict[str, Tensor]


def build(init: str | Path = "", norm: str = "running", classes: int = 3) -> SplitModel:
    recipe = ModelRecipe.model_validate({"width": 4, "norm": norm, "init": str(init)})
    return build_model(recipe, SHAPE, classes, seed=0)


@pytest.fixture(scope="module")
def trained() -> SplitModel:
    """Another start, with running statistics of its own."""
    model = build_model(ModelRecipe(width=4, norm="running"), SHAPE, 3, seed=9)
    model.train()(torch.randn(8, *SHAPE))
    return model


def whole(model: SplitModel) -> Weights:
    """By the names of the module that was split: a Sequential whose 18th layer is the head."""
    return {**model.body.state_dict(), "17.weight": model.head.weight.data, "17.bias": model.head.bias.data}


def same(one: SplitModel, other: SplitModel, part: str = "") -> bool:
    values = other.state_dict()
    return all(torch.equal(v, values[name]) for name, v in one.state_dict().items() if wanted(name) and part in name)


def wanted(name: str) -> bool:
    return not name.endswith("num_batches_tracked")


LAYOUTS: dict[str, Any] = {
    "checkpoint": lambda model: model.state_dict(),
    "whole": whole,
    "ddp": lambda model: {f"module.{name}": values for name, values in whole(model).items()},
    "state_dict": lambda model: {"epoch": 3, "state_dict": whole(model)},
    "model": lambda model: {"model": {f"module.{name}": values for name, values in whole(model).items()}},
    "double": lambda model: {name: v.double() if v.is_floating_point() else v for name, v in whole(model).items()},
}


@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        *(
            (layout, "safetensors") for layout in ("checkpoint", "whole", "ddp", "double")
        ),  # which hold no dict in a dict
        *((layout, "pt") for layout in LAYOUTS),
        ("whole", "pth"),
    ],
)
def test_weights_are_read_in_their_usual_layouts(layout: str, kind: str, trained: SplitModel, tmp_path: Path) -> None:
    content, path = LAYOUTS[layout](trained), tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_weights(path, content)
    else:
        torch.save(content, path)
    assert same(build(path), trained)
    by_batch = build(path, norm="batch")  # which keeps no statistics
    assert same(by_batch, trained) and "body.1.running_mean" not in by_batch.state_dict()


def test_a_body_alone_leaves_the_head_at_its_random_start(trained: SplitModel, tmp_path: Path) -> None:
    save_weights(tmp_path / "body.safetensors", trained.body.state_dict())
    model = build(tmp_path / "body.safetensors")
    assert same(model, trained, "body.")
    assert torch.equal(model.head.weight, build().head.weight)


def test_a_head_for_other_classes_is_left_out(trained: SplitModel, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", whole(trained))
    model = build(tmp_path / "w.safetensors", classes=5)
    assert same(model, trained, "body.")
    assert torch.equal(model.head.weight, build(classes=5).head.weight)


def test_running_statistics_may_be_missing(trained: SplitModel, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", {name: v for name, v in whole(trained).items() if "running" not in name})
    model = build(tmp_path / "w.safetensors")
    assert same(model, trained, "weight") and not model.body.state_dict()["1.running_mean"].any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.weight": None, "4.bias": None}, "0.weight, 4.bias missing"),
        (
            {"0.weight": torch.zeros(4, 3, 3, 3)},
            r"0.weight is torch.float32 \[4, 3, 3, 3\], the model's .*\[4, 1, 3, 3",
        ),
        ({"0.weight": torch.zeros(4, 1, 3, 3, dtype=torch.int64)}, "0.weight is torch.int64"),
        ({"1.running_mean": torch.zeros(5)}, r"1.running_mean is torch.float32 \[5\]"),
        ({"fc.weight": torch.zeros(2)}, "which has no fc.weight"),
        ({"4.weight": torch.full((4, 4, 3, 3), torch.nan)}, "4.weight holds values that are not finite"),
        ({"17.bias": torch.full((3,), torch.inf)}, "17.bias holds values that are not finite"),
        ({"0.weight": torch.full((4, 1, 3, 3), 1e300, dtype=torch.float64)}, "0.weight holds values that are not fin"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(
    change: dict[str, Tensor | None], said: str, trained: SplitModel, tmp_path: Path
) -> None:
    content = {name: v for name, v in (whole(trained) | change).items() if v is not None}
    save_weights(tmp_path / "w.safetensors", content)
    with pytest.raises(UserError, match=rf"^{tmp_path}/w.safetensors: .*{said}"):
        build(tmp_path / "w.safetensors")


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["w.pt", "w.pth"])
@pytest.mark.parametrize("forced", ["0", "1"])
def test_a_hostile_pickle_runs_nothing(
    name: str, forced: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: SplitModel
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    torch.save({**whole(trained), "extra": Hostile(tmp_path / "harm")}, tmp_path / name)
    with pytest.raises(UserError, match=rf"^{tmp_path}/{name}: damaged, or holds more than plain tensors"):
        build(tmp_path / name)
    assert not (tmp_path / "harm").exists()


def test_other_files_are_refused_by_name(tmp_path: Path, trained: SplitModel) -> None:
    (tmp_path / "w.bin").touch()
    (tmp_path / "cut.pt").write_bytes(b"PK\3\4")
    (tmp_path / "cut.safetensors").write_bytes(b"12345678")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save(whole(trained) | {"lr": 0.1}, tmp_path / "number.pt")
    torch.save(whole(trained) | {"0.weight": torch.zeros(4, 1, 3, 3).to_sparse()}, tmp_path / "sparse.pt")
    torch.save(whole(trained) | {"0.weight": torch.zeros(4, 1, 3, 3, device="meta")}, tmp_path / "meta.pt")
    for name, said in {
        "w.bin": "they come as .safetensors, .pt or .pth",
        "none.pt": "No such file",
        "none.safetensors": "no such file",
        "cut.pt": "damaged",
        "cut.safetensors": "not a whole safetensors file",
        "list.pt": "holds no state dict",
        "number.pt": "lr is not a plain tensor",
        "sparse.pt": "0.weight is not a plain tensor|damaged",
        "meta.pt": "0.weight is not a plain tensor|damaged",
    }.items():
        with pytest.raises(UserError, match=f"^{tmp_path / name}: .*({said})"):
            build(tmp_path / name)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache, empty, and no way to the network."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    return tmp_path / "checkpoints"


def test_published_weights_come_from_torchs_cache(hub: Path) -> None:
    import_torchvision()
    from torchvision.models import shufflenet_v2_x1_0

    hub.mkdir()
    published = shufflenet_v2_x1_0()
    torch.save(published.state_dict(), hub / "shufflenetv2_x1-5666bf0f80.pth")
    recipe = ModelRecipe(name="shufflenet_v2_x1_0", norm="running", init="pretrained")
    images = torch.randn(2, 3, 32, 32)
    model = build_model(recipe, (3, 32, 32), 1000, seed=0)
    torch.testing.assert_close(model.eval()(images), published.eval()(images))
    fewer = build_model(recipe, (3, 32, 32), 10, seed=0)
    assert fewer.head.out_features == 10
    torch.testing.assert_close(fewer.eval().body(images), model.body(images))


def test_published_weights_that_cannot_be_had_are_named(hub: Path) -> None:
    recipe = ModelRecipe(name="shufflenet_v2_x1_0", init="pretrained")
    with pytest.raises(UserError, match=rf"cannot download https://.*put it there as {hub}/shufflenetv2_x1-5666"):
        build_model(recipe, (3, 32, 32), 10, seed=0)
    hub.joinpath("shufflenetv2_x1-5666bf0f80.pth").write_bytes(b"half")
    with pytest.raises(UserError, match=r"shufflenetv2_x1-5666bf0f80.pth: damaged"):
        build_model(recipe, (3, 32, 32), 10, seed=0)


def test_models_without_published_weights_say_so() -> None:
    with pytest.raises(UserError, match=r"no published weights for model.name = 'mobilenet'"):
        build_model(ModelRecipe(name="mobilenet", init="pretrained"), (3, 32, 32), 10, seed=0)
