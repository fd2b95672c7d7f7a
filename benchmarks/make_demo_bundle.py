"""Make the bundle and pictures that fbkit carries for ``fbkit demo --device``.

    rm -r device_runtime/demo && python benchmarks/make_demo_bundle.py device_runtime/demo

Trains the shipped recipe for 100 rounds (a minute or two), exports the body to ONNX, and takes pictures of the held-out
client in the middle by accuracy before personalization: 10 of each of its classes to learn from and 14 to be judged by.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from fbkit.benchmarks.clients import write_clients
from fbkit.console import Reporter
from fbkit.export.exporting import export_run
from fbkit.train.partition import partition
from fbkit.train.recipe import load_recipe
from fbkit.train.run_folder import Run
from fbkit.train.sources import load_dataset
from fbkit.train.sources.embedded import EMBEDDED
from fbkit.train.training import train

KEPT = {"train": 10, "test": 14}


def main(out: Path) -> None:
    recipe = load_recipe(None, ["training.rounds=100"])
    dataset = load_dataset(recipe.data, recipe.seed)
    clients = partition(dataset, recipe.clients, recipe.seed)
    with tempfile.TemporaryDirectory() as work, Reporter() as reporter:
        run = train(recipe, Path(work) / "run", reporter=reporter)
        export_run(run.folder, "onnx", Path(work) / "demo" / "bundle")
        write_clients(dataset, clients, [_middle_client(run)], Path(work) / "clients")
        (client,) = (Path(work) / "clients").iterdir()
        for split, count in KEPT.items():
            for class_folder in (client / split).iterdir():
                for picture in sorted(class_folder.iterdir())[:count]:
                    target = Path(work) / "demo" / "pictures" / split / class_folder.name / picture.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(picture, target)
        shutil.copy(EMBEDDED.with_name("LICENSE-fashion-mnist.txt"), Path(work) / "demo")
        shutil.copytree(Path(work) / "demo", out)


def _middle_client(run: Run) -> int:
    evaluation = run.evaluation
    static = dict(evaluation.initial.measured())["static"]
    by_accuracy = sorted(zip(static.per_client, evaluation.clients, strict=True))
    return by_accuracy[len(by_accuracy) // 2][1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
