"""A training with so many clients, in a process of its own so that its memory is its own.

    python -m fbkit.benchmarks.scale.one_size CLIENTS ROUNDS OUT

Each client draws 8 to 12 training pictures and 2 test pictures, with repetition, from the embedded ones.
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from pathlib import Path

import numpy as np

from fbkit.console import Reporter
from fbkit.files import write_json
from fbkit.train import load_recipe, train
from fbkit.train.data import Dataset, Owners
from fbkit.train.metrics import read_metrics
from fbkit.train.owned import Owned
from fbkit.train.recipe import DataRecipe
from fbkit.train.sources import load_dataset

_KIB = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in


def main(clients: int, rounds: int, out: Path) -> None:
    dataset = load_dataset(DataRecipe())
    before = _peak()
    started = time.monotonic()
    dataset = _with_owners(dataset, clients)
    recipe = load_recipe(
        None,
        [
            "data.source=given",
            "clients.held_out=10",
            f"training.rounds={rounds}",
            f"training.checkpoint_every={rounds}",
            "training.cohort=50",
            "training.calibrate=false",
            'evaluation.statistics=["batch"]',
            "evaluation.every=0",
            "personalization=[]",
        ],
    )
    run = train(recipe, out / "run", workers=1, reporter=Reporter(quiet=True), dataset=dataset)
    metrics = read_metrics(run.folder)
    owners = dataset.owners
    assert owners  # noqa: S101  for the type checker: set above
    write_json(
        out / "result.json",
        {
            "clients": clients,
            "peak_bytes": _peak(),
            "peak_bytes_before": before,
            "index_bytes": sum(owned.bytes for owned in (owners.train, owners.test) if isinstance(owned, Owned)),
            "setup_seconds": time.monotonic() - started - sum(line["seconds"] for line in metrics),
            "round_seconds": [line["seconds"] for line in metrics],
            "pictures_per_second": [line["pictures_per_second"] for line in metrics],
        },
    )


def _with_owners(dataset: Dataset, clients: int) -> Dataset:
    rng = np.random.default_rng(clients)
    train, test = (
        Owned(rng.integers(0, len(pictures), int(sizes.sum())), sizes)
        for pictures, sizes in (
            (dataset.train, rng.integers(8, 13, clients)),
            (dataset.test, np.full(clients, 2)),
        )
    )
    return dataclasses.replace(dataset, owners=Owners((), train, test))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
