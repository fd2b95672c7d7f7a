"""A silo's own folder of pictures, with the labels that the whole run uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fbkit.console import Reporter
from fbkit.train.data import Dataset, Pictures
from fbkit.train.flower.letters import MOST_CLIENTS, Refusal
from fbkit.train.recipe import Recipe
from fbkit.train.sources import load_dataset

_START = "start it with --node-config 'pictures=\"FOLDER\" client=NUMBER'"


@dataclass(frozen=True)
class Place:
    """Where a silo's pictures lie, and which client of the run it is, from 0."""

    pictures: Path
    client: int


def find_place(node_config: Mapping[str, object]) -> Place:
    """What the SuperNode was started with.

    Raises:
        Refusal: it was not told, or something impossible.
    """
    pictures, client = node_config.get("pictures"), node_config.get("client")
    if not isinstance(pictures, str) or not pictures:
        raise Refusal(f"its SuperNode does not know where its pictures are; {_START}")
    if type(client) is not int or not 0 <= client < MOST_CLIENTS:
        raise Refusal(f"its SuperNode does not know which client it is, a number from 0; {_START}")
    return Place(Path(pictures).expanduser(), client)


def load_pictures(recipe: Recipe, classes: Sequence[str], place: Place, reporter: Reporter) -> Dataset:
    """The pictures of ``CLASS/PICTURE``, or ``train/CLASS/PICTURE`` beside ``test/CLASS/PICTURE``.

    A silo need not have all classes.

    Raises:
        UserError: they cannot be read.
        Refusal: a folder is no class of the run.
    """
    data = recipe.data.model_copy(update={"source": "class-folders", "root": str(place.pictures)})
    dataset = load_dataset(data, recipe.seed, reporter)
    unknown = [name for name in dataset.classes if name not in classes]
    if unknown:
        raise Refusal(
            f"has pictures of a class that the run does not know; the run's are {', '.join(classes)}; the silo's log "
            "names the others",
            f"{place.pictures} has {', '.join(unknown)}",
        )
    labels = torch.tensor([classes.index(name) for name in dataset.classes])
    train, test = (Pictures(pictures.images, labels[pictures.labels]) for pictures in (dataset.train, dataset.test))
    return replace(dataset, train=train, test=test, classes=tuple(classes))
