"""What would only fail after hours of training is refused before it."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import nn

from fbkit.device_runtime.bundle import Bundle
from fbkit.errors import UserError
from fbkit.export.exporting import export_run
from fbkit.train.data import Dataset, Owners, Pictures
from fbkit.train.recipe import load_recipe
from fbkit.train.training import resume, train

GIVEN = (
    "data.source=given",
    "clients.held_out=0",
    "training.rounds=1",
    "training.cohort=2",
    "evaluation.every=0",
    "evaluation.clients=all",
    "personalization=[]",
)


class Straight(nn.Module):
    """No body worth the name."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.out = nn.Linear(256, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.flat(images))
        return logits


class Plain(nn.Module):
    """No normalisation; a spare layer that is never used; a branch that cannot be traced."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, stride=4)
        self.out = nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.relu(self.stem(images))
        if maps.max().item() < 0:
            maps = -maps
        logits: torch.Tensor = self.out(maps.flatten(1))
        return logits


class Spare(nn.Module):
    """A normalisation layer that its forward never reaches."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.spare = nn.BatchNorm2d(3)
        self.out = nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.stem(images))
        return logits


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=4)
        self.norm = nn.BatchNorm2d(4)
        self.again = self.norm
        self.out = nn.Linear(64, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.again(torch.relu(self.norm(self.first(images))))
        logits: torch.Tensor = self.out(maps.flatten(1))
        return logits


class FailsElsewhere(Plain):
    """Raises in every process but the first."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if multiprocessing.parent_process() and len(images) == 6:
            raise ValueError("no luck here")
        return super().forward(images)


def clients_of(*sizes: tuple[int, int]) -> Dataset:
    """Made-up pictures of 16x16 for clients of so many training and test pictures."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for split in (0, 1):
        count = sum(size[split] for size in sizes)
        images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=generator)
        parts.append((Pictures(images, torch.arange(count) % 2), torch.arange(count)))
    train_parts, test_parts = (
        indices.split([size[split] for size in sizes]) for split, (_, indices) in enumerate(parts)
    )
    names = tuple(f"person-{place}" for place in range(len(sizes)))
    owners = Owners(names, tuple(train_parts), tuple(test_parts))
    return Dataset(parts[0][0], parts[1][0], ("a", "b"), (0.5,), (0.3,), "made up", owners)


def test_a_single_picture_that_cannot_be_normalised_by_its_batch_is_refused_by_its_owners_name(tmp_path: Path) -> None:
    data = clients_of((6, 4), (6, 1), (6, 4))
    recipe = load_recipe(None, [*GIVEN, "model.name=mobilenet"])
    with pytest.raises(UserError, match=r"person-1 has a single test picture, which model\.name = 'mobilenet' cannot"):
        train(recipe, tmp_path / "run", workers=1, dataset=data)
    assert not (tmp_path / "run").exists()
    train(load_recipe(None, [*GIVEN, "model.name=conv4", "model.width=4"]), tmp_path / "run", workers=1, dataset=data)


def test_a_net_without_a_body_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe(None, [*GIVEN, f"model.name={__name__}:Straight"])
    with pytest.raises(UserError, match="there is no body to share"):
        train(recipe, tmp_path / "run", workers=1, dataset=clients_of((6, 4), (6, 4)))


def test_more_figures_than_can_be_kept_are_refused(tmp_path: Path) -> None:
    many = "personalization=[{part='head', lr=0.1, epochs=[" + ",".join(map(str, range(1, 600_000))) + "]}]"
    with pytest.raises(UserError, match=r"personalization asks for 1,200,010 figures, more than 1,000,000"):
        train(load_recipe(None, [*GIVEN, many]), tmp_path / "run", workers=1, dataset=clients_of((6, 4), (6, 4)))


@pytest.mark.parametrize("net", ["Plain", "Spare"])
def test_odd_nets_train_and_are_exported_or_refused_in_a_line(net: str, tmp_path: Path) -> None:
    data = clients_of((6, 4), (6, 4))
    run = train(load_recipe(None, [*GIVEN, f"model.name={__name__}:{net}"]), tmp_path / "run", workers=1, dataset=data)
    assert (run.evaluation.calibration.kept == "not-needed") == (net == "Plain")
    if net == "Plain":
        with pytest.raises(
            UserError, match=f"{__name__}:Plain cannot be lowered to onnx: its forward goes by the values in a tensor"
        ):
            export_run(run.folder, "onnx", tmp_path / "bundle", dataset=data)
        assert not (tmp_path / "bundle").exists()
        return
    export_run(run.folder, "onnx", tmp_path / "bundle", dataset=data)
    assert Bundle.open(tmp_path / "bundle").manifest.classes == ("a", "b")


def test_a_layer_under_two_names_is_saved_and_resumed(tmp_path: Path) -> None:
    data = clients_of((6, 4), (6, 4))
    run = train(load_recipe(None, [*GIVEN, f"model.name={__name__}:Twice"]), tmp_path / "run", workers=1, dataset=data)
    before = run.evaluation
    (run.folder / "evaluation.json").unlink()
    assert resume(run.folder, workers=1, dataset=data).evaluation == before


def test_what_went_wrong_in_another_worker_is_said(tmp_path: Path) -> None:
    recipe = load_recipe(None, [*GIVEN, f"model.name={__name__}:FailsElsewhere", "training.rounds=3"])
    with pytest.raises(UserError, match=r"a training worker failed \(ValueError: no luck here\)"):
        train(recipe, tmp_path / "run", workers=2, dataset=clients_of((6, 4), (6, 4)))


def test_padded_pictures_are_not_for_a_device_that_resizes(tmp_path: Path) -> None:
    settings = ["data.size=32", "data.fit=pad", "model.width=4", "training.rounds=1", "personalization=[]"]
    run = train(load_recipe(None, settings), tmp_path / "run", workers=1)
    with pytest.raises(UserError, match=r"train with data\.fit = 'resize'"):
        export_run(run.folder, "onnx", tmp_path / "bundle")


def test_fine_tuning_that_diverges_counts_as_wrong(tmp_path: Path) -> None:
    tuned = "personalization=[{part='full', lr=1000, epochs=5}]"
    data = clients_of((40, 10), (40, 10))
    settings = [
        *GIVEN,
        "model.width=4",
        "model.norm=running",
        "training.momentum=0.99",
        tuned.replace("batch", "static"),
    ]
    run = train(load_recipe(None, settings), tmp_path / "run", workers=1, dataset=data)
    assert run.evaluation.personalized[0].mean == 0
