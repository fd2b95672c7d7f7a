"""From a user's own pictures and net to a trained run and a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from fbkit.device_runtime.bundle import Bundle
from fbkit.errors import UserError
from fbkit.export.exporting import export_run
from fbkit.train import dataset_from_torch, evaluate_run, load_recipe, resume, train
from fbkit.train.run_folder import open_run
from tests.conftest import Outcome

RUN = (
    "clients.held_out=1",
    "clients.shards_per_client=2",
    "model.width=6",
    "training.rounds=2",
    "training.cohort=2",
    "evaluation.every=0",
    "evaluation.clients=all",
    'personalization=[{part="head", epochs=2, lr=0.01}]',
)

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.classify = nn.Linear(32, num_classes)

    def forward(self, images):
        return self.classify(torch.flatten(self.pool(self.stem(images)), 1))
"""


def picture(kind: int, number: int) -> Image.Image:
    """Stripes across or upright, of some size and mode, with a little noise."""
    rng = np.random.default_rng([kind, number])
    height, width = rng.integers(20, 50, 2)
    stripes = 128 + 100 * np.sign(np.sin(np.arange(height)[:, None] if kind else np.arange(width)[None, :]))
    pixels = np.clip(np.broadcast_to(stripes, (height, width)) + rng.normal(0, 20, (height, width)), 0, 255)
    return Image.fromarray(pixels.astype(np.uint8)).convert(("RGB", "L", "RGBA", "P")[number % 4])


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four people with ten pictures of each of two kinds."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for person, name in enumerate(("ann", "bob", "cleo", "dan")):
        for kind, class_name in enumerate(("across", "upright")):
            folder = tmp_path / "photos" / name / class_name
            folder.mkdir(parents=True)
            for number in range(10):
                picture(kind, 100 * person + number).save(folder / f"{number}.png")
    return tmp_path / "photos"


def flags(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def test_one_command_trains_on_a_folder_of_clients_and_the_bundle_follows(
    photos: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    own = flags("data.source=client-folders", f"data.root={photos}", "data.size=16", *RUN)
    run = tmp_path / "run"
    trained = fbkit("train", *own, "--out", run, "--workers", 1)
    assert trained.code == 0, trained.err
    assert open_run(run).classes == ("across", "upright")
    assert open_run(run).shape == (3, 16, 16)
    assert open_run(run).description.clients == 4
    exported = fbkit("export", run, "--target", "onnx", "--out", tmp_path / "bundle")
    assert exported.code == 0, exported.err
    provenance = Bundle.open(tmp_path / "bundle").manifest.provenance
    assert provenance["recipe"]["data"]["root"] == "photos"  # not where it lies
    personalized = fbkit("personalize", tmp_path / "bundle", photos / "ann", "--profile", tmp_path / "profile")
    assert personalized.code == 0, personalized.err


def test_too_large_a_cohort_for_the_folders_clients_is_refused_before_a_run_is_made(
    photos: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    own = flags("data.source=client-folders", f"data.root={photos}", "data.size=16", *RUN, "training.cohort=4")
    outcome = fbkit("train", *own, "--out", tmp_path / "run", "--workers", 1)
    assert outcome.code == 2
    assert "training.cohort = 4 is more than the 3 clients that train" in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_folder_of_classes_is_dealt_to_clients_and_a_net_of_ones_own_trains(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fbkit: Callable[..., Outcome]
) -> None:
    (tmp_path / "my_nets.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    for kind in ("across", "upright"):
        for person in photos.iterdir():
            target = tmp_path / "classes" / kind
            target.mkdir(parents=True, exist_ok=True)
            for path in (person / kind).iterdir():
                path.rename(target / f"{person.name}-{path.name}")
    own = flags("data.source=class-folders", "data.root=classes", "data.size=16", *RUN, "clients.count=4")
    outcome = fbkit("train", *own, *flags("model.name=my_nets:Net"), "--out", "run", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert open_run(Path("run")).description.model.features == 32
    exported = fbkit("export", "run", "--target", "onnx", "--out", "bundle")
    assert exported.code == 0, exported.err


class Stripes(TorchDataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 80

    def __getitem__(self, place: int) -> tuple[Image.Image, int]:
        return picture(place % 2, place), place % 2


def test_a_torch_data_set_handed_over_in_python_trains_is_judged_and_exported(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["data.source=given", "clients.count=4", *RUN])
    given = dataset_from_torch(Stripes(), Stripes(), ("across", "upright"), size=16, channels=1)
    run = train(recipe, tmp_path / "run", workers=2, dataset=given)
    assert resume(run.folder, dataset=given).is_complete
    assert evaluate_run(run.folder, workers=1, dataset=given) == run.evaluation
    assert export_run(run.folder, "onnx", tmp_path / "bundle", dataset=given).manifest.classes == ("across", "upright")
    with pytest.raises(UserError, match="handed over in Python"):
        evaluate_run(run.folder, workers=1)
    otherwise = dataset_from_torch(
        Stripes(), Stripes(), ("across", "upright"), size=16, channels=1, mean=(0.1,), std=(0.05,)
    )
    with pytest.raises(UserError, match="was trained on other pictures"):
        evaluate_run(run.folder, workers=1, dataset=otherwise)
    with pytest.raises(UserError, match=r"data\.source = 'fashion-mnist-10k', but a data set was given"):
        train(load_recipe(None, RUN), tmp_path / "other", dataset=given)


@pytest.mark.parametrize("algorithm", ["lg-fedavg", "local-only"])
def test_a_run_without_a_common_body_is_not_exported(algorithm: str, tmp_path: Path) -> None:
    settings = [*RUN, f"training.algorithm={algorithm}", "clients.count=500", "evaluation.clients=held-out"]
    run = train(load_recipe(None, settings), tmp_path / "run", workers=1)
    with pytest.raises(UserError, match="every client has its own body"):
        export_run(run.folder, "onnx", tmp_path / "bundle")


def test_a_run_without_static_statistics_is_not_exported(tmp_path: Path) -> None:
    settings = [*RUN, "training.calibrate=false", "evaluation.statistics=['batch']", "personalization=[]"]
    run = train(load_recipe(None, [*settings, "evaluation.clients=held-out"]), tmp_path / "run", workers=1)
    with pytest.raises(UserError, match=r"train with training\.calibrate = true"):
        export_run(run.folder, "onnx", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
