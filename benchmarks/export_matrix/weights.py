"""Weights to export: of a brief training on the embedded pictures, or of a random start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fbkit.console import Reporter
from fbkit.device_runtime.body import normalise
from fbkit.device_runtime.manifest import InputSpec
from fbkit.errors import UserError
from fbkit.export.own_model import OwnModel
from fbkit.export.real_pictures import CALIBRATION_PICTURES, VERIFIED_PICTURES, choose, list_folder
from fbkit.files import whole_folder
from fbkit.train.models import build_model, judge_by, norm_layers
from fbkit.train.models.names import SMALL, TORCHVISION
from fbkit.train.recipe import DataRecipe, ModelRecipe, Recipe, parse_recipe
from fbkit.train.run_folder import open_run
from fbkit.train.sources import load_dataset
from fbkit.train.training import resume
from fbkit.train.weights import save_weights

MODELS = (*SMALL, *TORCHVISION)

_SEED = 0
_BATCH = 50
_SMALL_SIDE, _TORCHVISION_SIDE = 32, 96  # of pictures for a random start, in pixels


@dataclass(frozen=True)
class Training:
    """How a model is trained: rounds are passes over all pictures; side, in pixels, and channels 0 are the pictures'
    own, 28 and 1.
    """

    rounds: int
    side: int = 0
    channels: int = 0


# Rounds that bring most of the accuracy within some minutes on two cores.
TRAININGS: Mapping[str, Training] = {
    "conv4": Training(10),
    "mobilenet": Training(8),
    "resnet18-small": Training(3),
    "mobilenet_v2": Training(6, side=64, channels=3),
}


def train_model(name: str, training: Training, width: int, rounds: int | None, out: Path, reporter: Reporter) -> None:
    """Train into the run folder ``out``, or go on there; a run that is complete is left as it is.

    Args:
        width: channels of the 4-conv net.
        rounds: None for the training's own number.

    Raises:
        UserError: ``out`` holds a run of another width or number of rounds, and as ``train``.
    """
    recipe = _recipe(name, training, width, rounds)
    if out.exists():
        run = open_run(out)
        if run.recipe != recipe:
            raise UserError(f"{out}: has other --rounds or --width; give the same, or choose another --out")
        if run.is_complete:
            return
    reporter.line(f"{name}: a brief training")
    resume(out, recipe=recipe, reporter=reporter)


def _recipe(name: str, training: Training, width: int, rounds: int | None) -> Recipe:
    """FedBABU with two clients, one for each core, that hold half of the pictures each."""
    values: dict[str, Any] = {
        "seed": _SEED,
        "data": {"size": training.side, "channels": training.channels, "crop_padding": 2, "flip": True},
        "clients": {"count": 2, "partition": "iid"},
        # Calibrating deep networks layer by layer takes as long as training them.
        "model": {"name": name, "width": width, "norm": "running"},
        "training": {
            "algorithm": "fedbabu",
            "rounds": rounds or training.rounds,
            "cohort": 2,
            "batch_size": _BATCH,
            "lr": 0.1,
            "lr_milestones": [0.5, 0.8],
            "weight_decay": 5e-4,
            "checkpoint_every": 1,
        },
        "evaluation": {"statistics": ["static"]},
    }
    return parse_recipe(values, "the benchmark's recipe")


def start_model(name: str, pictures: Path, weights: Path) -> OwnModel:
    """A model at its random start, as what ``fbkit export --model`` takes; ``weights`` is made if it is not there.

    Its normalisation statistics are those of pictures: else the values in a deep network would vanish or explode.

    Args:
        pictures: the folder of ``write_pictures``.
    """
    dataset = load_dataset(DataRecipe())
    side = _SMALL_SIDE if name in SMALL else _TORCHVISION_SIDE
    spec = InputSpec(3, side, side, dataset.mean * 3, dataset.std * 3)
    if not weights.exists():
        recipe = ModelRecipe(name=name, norm="running")
        model = build_model(recipe, (3, side, side), len(dataset.classes), _SEED)
        folder = list_folder(pictures, dataset.classes)
        seen = folder.decode(choose(len(folder), CALIBRATION_PICTURES), spec)
        judge_by(model, "batch")
        for layer in norm_layers(model).values():
            layer.track_running_stats, layer.momentum = True, None  # the mean over batches
            layer.reset_running_stats()
        with torch.no_grad():
            for batch in torch.from_numpy(normalise(seen.pictures, spec)).split(_BATCH):
                model(batch)
        save_weights(weights, model.state_dict())
    return OwnModel(name, weights, dataset.classes, spec, pictures)


def write_pictures(out: Path) -> None:
    """As many PNG as export calibrates and verifies with, in one folder without classes.

    The channels of each are three of the embedded test pictures: grey ones would leave a network's differences of
    colours at nothing, and with such statistics it makes a thousand times as much of any colour that it meets.
    """
    count = CALIBRATION_PICTURES + VERIFIED_PICTURES
    grey = load_dataset(DataRecipe()).test.images[: 3 * count, 0]
    with whole_folder(out) as folder:
        for number, three in enumerate(grey.split(3)):
            Image.fromarray(np.dstack(three.numpy())).save(folder / f"{number:05d}.png")
