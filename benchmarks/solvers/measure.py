"""Runs of several seeds, their held-out clients, a few pictures of each class: the accuracy of each way."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fbkit.console import Reporter
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.fitting import default_recipe, fit
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import Defaults
from fbkit.device_runtime.profile.memory import as_stored
from fbkit.device_runtime.shuffle import stratified_folds
from fbkit.device_runtime.solvers.exact import fit_exact
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.export.exporting import export_run
from fbkit.train.partition import partition
from fbkit.train.recipe import Recipe, load_recipe
from fbkit.train.run_folder import Run, open_run
from fbkit.train.sources import load_dataset
from fbkit.train.training import train

if TYPE_CHECKING:
    from fbkit.train.data import Pictures

SIZES = (1, 2, 5, 10, 20, 50)
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

Way = Callable[[Head, Float, Labels, Defaults], Head]


def shipped(head: Head, _features: Float, _labels: Labels, _defaults: Defaults) -> Head:
    return head


def sgd(head: Head, features: Float, labels: Labels, defaults: Defaults) -> Head:
    """With the learning rate and epochs that did best on training clients."""
    return fit(head, features, labels, default_recipe(defaults, "sgd")).head


def exact(head: Head, features: Float, labels: Labels, defaults: Defaults) -> Head:
    """With the penalty that did best on training clients."""
    return fit(head, features, labels, default_recipe(defaults, "exact")).head


def exact_own_penalty(head: Head, features: Float, labels: Labels, defaults: Defaults) -> Head:
    """With the penalty that does best on the client's own pictures, by cross-validation, where it can be done."""
    folds = min(5, int(np.unique(labels, return_counts=True)[1].min()))
    if folds < 2:
        return exact(head, features, labels, defaults)
    assigned = stratified_folds(labels, folds, 0)

    def loss(penalty: float) -> float:
        total = 0.0
        for fold in range(folds):
            held, others = assigned == fold, assigned != fold
            fitted = fit_exact(head, features[others], labels[others], penalty, gap=1e-4).head
            total += float(fitted.losses(features[held], labels[held]).sum())
        return total

    return fit_exact(head, features, labels, min(_PENALTIES, key=loss)).head


WAYS: dict[str, Way] = {"shipped": shipped, "sgd": sgd, "exact": exact, "exact, own penalty": exact_own_penalty}


@dataclass(frozen=True)
class Measured:
    """What one way gave one client from so many pictures of each class.

    accuracy: percent of the client's test pictures. seconds: of the fit.
    """

    algorithm: str
    shards: int
    seed: int
    client: int
    size: int
    way: str
    accuracy: float
    seconds: float


def measure(
    algorithms: tuple[str, ...],
    shards: tuple[int, ...],
    seeds: int,
    settings: tuple[str, ...],
    out: Path,
    say: Reporter,
) -> list[Measured]:
    """Train each run that is not in ``out`` yet, export it, and try every way on its held-out clients."""
    found: list[Measured] = []
    plan = list(itertools.product(algorithms, shards, range(seeds)))
    with say.stage("runs", len(plan)) as advance:
        for algorithm, held, seed in plan:
            name = f"{algorithm}-s{held}-{seed}"
            recipe = load_recipe(
                None,
                (
                    f"seed={seed}",
                    f"training.algorithm={algorithm}",
                    f"clients.shards_per_client={held}",
                    "clients.held_out=25",
                    "evaluation.every=0",
                    *settings,
                ),
            )
            run = _trained(recipe, out / "runs" / name)
            bundle = _exported(run, out / "bundles" / name)
            for client, size, way, accuracy, seconds in _clients(run, bundle):
                found.append(Measured(algorithm, held, seed, client, size, way, accuracy, seconds))
            advance(name)
    return found


def _trained(recipe: Recipe, folder: Path) -> Run:
    return open_run(folder) if (folder / "run.json").exists() else train(recipe, folder, workers=None)


def _exported(run: Run, folder: Path) -> Bundle:
    return Bundle.open(folder) if folder.exists() else export_run(run.folder, "onnx", folder)


def _clients(run: Run, bundle: Bundle) -> list[tuple[int, int, str, float, float]]:
    dataset = load_dataset(run.recipe.data)
    dealt = partition(dataset, run.recipe.clients, run.recipe.seed)
    found = []
    for client in dealt.held_out:
        known, labels = _look_at(bundle, dataset.train, dealt.train[client].numpy())
        unseen, truth = _look_at(bundle, dataset.test, dealt.test[client].numpy())
        order = np.random.default_rng([run.recipe.seed, client]).permutation(len(labels))
        for size in SIZES:
            rows = np.concatenate([order[labels[order] == label][:size] for label in np.unique(labels)])
            for name, way in WAYS.items():
                began = time.perf_counter()
                head = way(bundle.head, as_stored(known[rows]), labels[rows], bundle.manifest.personalization)
                seconds = time.perf_counter() - began
                found.append((client, size, name, head.accuracy(unseen, truth), seconds))
    return found


def _look_at(bundle: Bundle, pictures: Pictures, rows: npt.NDArray[np.int64]) -> tuple[Float, Labels]:
    images = pictures.images[rows].permute(0, 2, 3, 1).numpy()
    return bundle.features(list(images)), pictures.labels[rows].numpy()
