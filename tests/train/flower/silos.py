"""Silos with real pictures, a recipe for them, and a way to reach them without Flower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
import torch

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.flower.letters import Letter, Refusal
from fbkit.train.flower.settings import Settings, read_settings
from fbkit.train.flower.silo import answer
from fbkit.train.flower.silo_pictures import Place
from fbkit.train.flower.terms import read_terms
from fbkit.train.recipe import Recipe, parse_recipe
from fbkit.train.run_folder import Run
from fbkit.train.weights import read_weights
from tests.train.picture_folders import write_pictures

CLASSES = ("bee", "cat", "dog")
COUNTS = ({"bee": 14, "cat": 9}, {"cat": 6, "dog": 31})  # no silo has all classes

RECIPE: dict[str, dict[str, Any]] = {
    "data": {"size": 16, "crop_padding": 2, "flip": True},
    "model": {"width": 8},
    "training": {"rounds": 2, "cohort": 2, "batch_size": 5, "local_epochs": 2},
}
PERSONALIZATION = [{"part": "head", "epochs": [1, 3], "lr": [0.01], "statistics": "static"}]


def write_silos(root: Path) -> list[Path]:
    """A folder for each silo, ``root/silo-N/{train,test}/CLASS/PICTURE``: what ``client-folders`` reads too."""
    folders = []
    for number, counts in enumerate(COUNTS):
        folders.append(root / f"silo-{number}")
        for label, count in counts.items():
            write_pictures(folders[-1] / "train" / label, count, seed=number)
            write_pictures(folders[-1] / "test" / label, 5, seed=10 + number)
    return folders


def recipe_values(**changes: Any) -> dict[str, Any]:
    """``training={...}`` and the like change single values of a section."""
    sections = {name: RECIPE.get(name, {}) | changes.get(name, {}) for name in {*RECIPE, *changes}}
    return {"seed": 5, **sections, "personalization": PERSONALIZATION}


def write_recipe(path: Path, **changes: Any) -> Path:
    path.write_text(tomli_w.dumps(recipe_values(**changes)))
    return path


def engine_recipe(root: Path, **changes: Any) -> Recipe:
    """The same for the engine, with all silos' pictures in one place."""
    values = recipe_values(**changes)
    values["data"] |= {"source": "client-folders", "root": str(root)}
    return parse_recipe(values, "a test")


def settings(values: Mapping[str, object]) -> Settings:
    config = {"classes": ", ".join(CLASSES), "silos": 2, "min-answers": 2, "timeout": 60.0}
    return read_settings({**config, **values})


def assert_same_model(run: Run, engine: Run) -> None:
    """The trained weights within 1e-5, the statistics made from them within rounding, the head bit for bit or so."""
    for name in ("body", "head"):
        found, wanted = (read_weights(each.folder / f"{name}.safetensors")[0] for each in (run, engine))
        assert found.keys() == wanted.keys()
        for key, value in found.items():
            if value.is_floating_point():
                torch.testing.assert_close(value, wanted[key], rtol=1e-5, atol=1e-5, msg=f"{name} {key}")
    if run.recipe.training.algorithm == "fedbabu":
        heads = (read_weights(each.folder / "head.safetensors")[0] for each in (run, engine))
        one, other = heads
        assert all(torch.equal(one[key], other[key]) for key in ("weight", "bias"))


Intercept = Callable[[str, int, Letter], Letter | str | None]


class Direct:
    """A channel to silos in this process: by node, what each was started with.

    intercept: sees every letter before a silo does (kind, node, letter). It may change it, say why there is no answer,
    or give none. meddle: the same with answers. sent: all that silos sent, with their nodes.
    """

    def __init__(
        self,
        places: dict[int, Place],
        intercept: Intercept = lambda _kind, _node, letter: letter,
        meddle: Intercept = lambda _kind, _node, letter: letter,
    ) -> None:
        self.places = places
        self.sent: list[tuple[str, int, Letter]] = []
        self._intercept = intercept
        self._meddle = meddle

    def connected(self) -> list[int]:
        return list(self.places)

    def ask(self, kind: str, nodes: Sequence[int], letter: Letter) -> dict[int, Letter | str]:
        found = {node: self._ask(kind, node, letter) for node in nodes}
        return {node: got for node, got in found.items() if got is not None}

    def _ask(self, kind: str, node: int, letter: Letter) -> Letter | str | None:
        got = self._intercept(kind, node, letter)
        if not isinstance(got, Letter):
            return got
        try:
            answered = answer(kind, read_terms(got.values), got.tensors, self.places[node], Reporter(quiet=True))
        except Refusal as refusal:
            return refusal.told
        except UserError:
            return "could not do it"
        self.sent.append((kind, node, answered))
        return self._meddle(kind, node, answered)


def direct(folders: Sequence[Path], **options: Any) -> Direct:
    """Clients 0, 1, ... in the order of the folders, at the nodes 1000, 1001, ..."""
    return Direct({1000 + number: Place(folder, number) for number, folder in enumerate(folders)}, **options)
