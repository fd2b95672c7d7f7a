"""A federation of two unequal clients on made-up pictures, small enough to train by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from fbkit.train.algorithms import ALGORITHMS
from fbkit.train.client_states import ClientStates
from fbkit.train.data import Dataset, Pictures
from fbkit.train.federation import Federation
from fbkit.train.models import SplitModel, build_model, norm_layers
from fbkit.train.partition import Clients
from fbkit.train.recipe import parse_recipe
from fbkit.train.workers import Workers

SIZES = (7, 19)


def two_clients(
    algorithm: str, weighting: str = "examples", model: Mapping[str, object] | None = None, **training: object
) -> Federation:
    """Clients of 7 and 19 pictures of 16x16, both in every cohort, and a third one that is held out."""
    recipe = parse_recipe(
        {
            "seed": 3,
            "data": {"crop_padding": 1, "flip": True},
            "clients": {"count": 3, "held_out": 1},
            "model": {"width": 4, **(model or {})},
            "training": {
                "algorithm": algorithm,
                "weighting": weighting,
                "rounds": 2,
                "cohort": 2,
                "local_epochs": 2,
                "batch_size": 5,
                "momentum": 0.9,
                "lr_milestones": [0.5],
                **training,
            },
        },
        "a test",
    )
    generator = torch.Generator().manual_seed(0)
    count = sum(SIZES) + 6
    images = torch.randint(0, 256, (count, 1, 16, 16), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 3, (count,), generator=generator)
    pictures = Pictures(images, labels)
    dataset = Dataset(pictures, pictures, ("a", "b", "c"), (0.5,), (0.3,), "made up")
    owned = tuple(torch.arange(count).split([*SIZES, 6]))
    clients = Clients(train=owned, test=owned, training=(0, 1), held_out=(2,))
    built = build_model(recipe.model, dataset.shape, 3, recipe.seed)
    states = ClientStates(Path(tempfile.mkdtemp(prefix="fbkit-test-")))
    return Federation(
        recipe, Workers(), dataset, clients, built, ALGORITHMS[algorithm], states, recipe.training.side_by_side or 1
    )


def static_statistics(model: SplitModel) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The mean and variance that each normalisation layer uses in eval mode."""
    return {
        name: (layer.running_mean, layer.running_var)
        for name, layer in norm_layers(model).items()
        if layer.running_mean is not None and layer.running_var is not None
    }
