"""The limit: the same steps on the same batches with nothing federated around them.

    python -m fbkit.benchmarks.train_speed.bare_loop WORKLOAD OUT THREADS

One model and one optimizer from the first step to the last: no client starts from the server's weights, nothing is
averaged, summed up, written or checked. In the fastest form that was found: pictures in one tensor, whole batches
augmented at once, channels last, torch's foreach optimizer, freed memory kept. ``torch.compile`` made the 4-conv net
slower on a CPU (benchmarks/results/train-speed has the figures), so it is not compiled.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from fbkit.benchmarks.train_speed.contender import write_result
from fbkit.benchmarks.train_speed.workload import recipe_of
from fbkit.train.cohorts import sample_cohort
from fbkit.train.data import Batcher
from fbkit.train.memory import keep_freed_memory
from fbkit.train.models import build_model
from fbkit.train.partition import partition
from fbkit.train.sources import load_dataset


def main(workload: Path, out: Path, threads: int) -> None:
    started = time.monotonic()
    torch.set_num_threads(threads)
    keep_freed_memory()
    recipe = recipe_of(workload)
    dataset = load_dataset(recipe.data, recipe.seed)
    clients = partition(dataset, recipe.clients, recipe.seed)
    model = build_model(recipe.model, dataset.shape, len(dataset.classes), recipe.seed).train()
    settings = recipe.training
    batcher = Batcher(
        dataset.mean, dataset.std, settings.batch_size, crop_padding=recipe.data.crop_padding, flip=recipe.data.flip
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr, momentum=settings.momentum, foreach=True)
    generator = torch.Generator().manual_seed(recipe.seed)
    seconds, pictures = [], []
    begun = last = time.monotonic()
    for number in range(1, settings.rounds + 1):
        seen = 0
        for client in sample_cohort(recipe, clients.training, number):
            own = clients.train[client]
            for images, labels in batcher.shuffled(dataset.train, own, settings.local_epochs, generator):
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
                    loss = cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                seen += len(labels)
        now = time.monotonic()
        seconds.append(now - last)
        pictures.append(seen)
        last = now
    write_result(out, begun - started, seconds, pictures, None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
