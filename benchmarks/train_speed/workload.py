"""The workload that every contender trains: one recipe's pictures, clients, cohorts and start, as plain files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from fbkit.files import write_atomic, write_json
from fbkit.train.cohorts import sample_cohort
from fbkit.train.data import Dataset
from fbkit.train.models import SplitModel, build_model
from fbkit.train.owned import sizes_of
from fbkit.train.partition import Clients, partition
from fbkit.train.recipe import Recipe, load_recipe, parse_recipe, recipe_to_toml
from fbkit.train.sources import load_dataset

WORKLOAD, CHANNELS_LAST, BFLOAT16 = "workload", "workload-channels-last", "workload-bfloat16"

# FedAvg, since all have it: 100 clients, ten of them in a round, batches of 50. The pictures are dealt evenly, so that
# a few rounds reach an accuracy that can be compared to a point.
_RECIPE: dict[str, Any] = {
    "seed": 0,
    "data": {"crop_padding": 4, "flip": True},
    "clients": {"count": 100, "partition": "iid"},
    "training": {
        "algorithm": "fedavg",
        "cohort": 10,
        "batch_size": 50,
        "lr": 0.1,
        "momentum": 0.9,
        "lr_milestones": [0.5, 0.75],
        "calibrate": False,
    },
    "evaluation": {"statistics": ["batch"], "every": 0},
}


@dataclass(frozen=True)
class Prepared:
    """What a workload folder was made from."""

    recipe: Recipe
    dataset: Dataset
    clients: Clients
    model: SplitModel


def prepare(out: Path, rounds: int, warmup_rounds: int, width: int) -> Prepared:
    """Make the workload's folders in ``out``: the same, but for the layout and the precision that they ask for.

    ``benchmarks/rivals/workload.py`` says what is in them. recipe.toml is fbkit's own, which is channels last always.
    """
    training = {**_RECIPE["training"], "rounds": rounds, "checkpoint_every": rounds}
    values = {**_RECIPE, "model": {"width": width}, "training": training}
    recipe = parse_recipe(values, "the benchmark's recipe")
    dataset = load_dataset(recipe.data, recipe.seed)
    clients = partition(dataset, recipe.clients, recipe.seed)
    model = build_model(recipe.model, dataset.shape, len(dataset.classes), recipe.seed)
    folder = out / WORKLOAD
    folder.mkdir(parents=True)
    write_atomic(folder / "recipe.toml", recipe_to_toml(recipe).encode())
    np.save(folder / "images.npy", dataset.train.images.numpy())
    np.save(folder / "labels.npy", dataset.train.labels.numpy())
    np.save(folder / "indices.npy", torch.cat([*clients.train]).numpy())
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(sizes_of(clients.train))]))
    cohorts = [sample_cohort(recipe, clients.training, number) for number in range(1, rounds + 1)]
    np.save(folder / "cohorts.npy", np.array(cohorts, np.int64))
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "weights.safetensors")
    spec = {
        "format": "fbkit.workload",
        "version": 1,
        "rounds": rounds,
        "warmup_rounds": warmup_rounds,
        "batch_size": recipe.training.batch_size,
        "local_epochs": recipe.training.local_epochs,
        "learning_rates": [recipe.learning_rate(number) for number in range(1, rounds + 1)],
        "momentum": recipe.training.momentum,
        "weight_decay": recipe.training.weight_decay,
        "weighting": "clients",
        "crop_padding": recipe.data.crop_padding,
        "flip": recipe.data.flip,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "classes": len(dataset.classes),
        "width": width,
        "seed": recipe.seed,
        "workers": 2,
    }
    for name, channels_last, bfloat16 in ((CHANNELS_LAST, True, False), (BFLOAT16, True, True)):
        shutil.copytree(folder, out / name)
        write_json(out / name / "spec.json", spec | {"channels_last": channels_last, "bfloat16": bfloat16})
    write_json(folder / "spec.json", spec | {"channels_last": False, "bfloat16": False})
    half = parse_recipe({**values, "training": {**training, "precision": "bfloat16"}}, "the benchmark's recipe")
    write_atomic(out / BFLOAT16 / "recipe.toml", recipe_to_toml(half).encode())
    return Prepared(recipe, dataset, clients, model)


def recipe_of(folder: Path) -> Recipe:
    """The recipe that a workload folder was made from."""
    return load_recipe(folder / "recipe.toml")
