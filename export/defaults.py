"""Personalization defaults for the manifest, chosen on training clients of the run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import Defaults
from fbkit.device_runtime.solvers.exact import fit_exact
from fbkit.device_runtime.solvers.sgd import default_schedule, fit_sgd
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError
from fbkit.train.data import Batcher, Dataset, Pictures
from fbkit.train.models import SplitModel
from fbkit.train.owned import sizes_of
from fbkit.train.partition import Clients, partition
from fbkit.train.run_folder import Run
from fbkit.train.seeds import Purpose, numpy_stream

# What is tried, the more cautious before the bolder: of those that are as good the first is chosen.
_PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)
_RATES = (0.001, 0.003, 0.01, 0.03, 0.1)
_EPOCHS = (1, 2, 5, 10, 20)

# Pictures of each class to learn from, None for all: people give few.
_SIZES = (1, 5, 10, None)

_LEAST_CLIENTS, _MOST_CLIENTS = 5, 30
_MOST_TRAINING, _MOST_TEST = 200, 100  # pictures of a client

Figures = list[list[list[float]]]  # accuracies by client, size (as in _SIZES) and way


@dataclass(frozen=True)
class Chosen:
    """The defaults, and for the manifest how they were found (JSON values only)."""

    defaults: Defaults
    report: dict[str, Any]


@dataclass(frozen=True)
class _Examples:
    """features: float32 [N, F]; labels: int64 [N]."""

    features: Float
    labels: Labels

    def first_of_each_class(self, count: int | None) -> _Examples:
        rows = np.concatenate([np.flatnonzero(self.labels == label)[:count] for label in np.unique(self.labels)])
        return _Examples(self.features[rows], self.labels[rows])

    def accuracy(self, head: Head) -> float:
        return head.accuracy(self.features, self.labels)


def choose_defaults(run: Run, model: SplitModel, dataset: Dataset) -> Chosen:
    """Defaults that served the run's training clients best; held-out clients are not looked at.

    Up to 30 training clients, drawn by the run's seed, fit the head to their training pictures and are judged on their
    test pictures, with several numbers of pictures of each class to learn from. Chosen are the exact solver's penalty,
    and SGD's learning rate and epochs, by the mean accuracy over clients and these numbers; of ways between which the
    clients do not tell, the most cautious. The report has each way's accuracies, in percent, in the order of the
    numbers ("pictures_a_class").

    Args:
        model: in eval mode with static statistics.
        dataset: the run's.
    """
    clients = partition(dataset, run.recipe.clients, run.recipe.seed)
    rng = numpy_stream(run.recipe.seed, Purpose.DEFAULTS)
    drawn = _draw(clients, rng)
    if len(drawn) < _LEAST_CLIENTS:
        why = f"fewer than {_LEAST_CLIENTS} training clients have training and test pictures"
        return Chosen(Defaults(), {"measured": False, "why": why})
    head = Head(model.head.weight.detach().numpy(), model.head.bias.detach().numpy())
    shipped, exact, sgd = [], [], []
    for client in drawn:
        own = rng.permutation(clients.train[client].numpy())[:_MOST_TRAINING]
        others = rng.permutation(clients.test[client].numpy())[:_MOST_TEST]
        known = _look_at(dataset.train, own, dataset, model)
        unseen = _look_at(dataset.test, others, dataset, model)
        few = [known.first_of_each_class(count) for count in _SIZES]
        shipped.append(unseen.accuracy(head))
        exact.append([[_exact(head, examples, penalty, unseen) for penalty in _PENALTIES] for examples in few])
        sgd.append([[each for lr in _RATES for each in _sgd(head, examples, lr, unseen)] for examples in few])
    penalty = _PENALTIES[_choose(exact)]
    schedules = [(lr, epochs) for lr in _RATES for epochs in _EPOCHS]
    lr, epochs = schedules[_choose(sgd)]
    report = {
        "measured": True,
        "clients": len(drawn),
        "pictures_a_class": [count or "all" for count in _SIZES],
        "shipped_accuracy": round(float(np.mean(shipped)), 2),
        "exact": [
            {"penalty": tried, "accuracy": found} for tried, found in zip(_PENALTIES, _means(exact), strict=True)
        ],
        "sgd": [
            {"lr": tried[0], "epochs": tried[1], "accuracy": found}
            for tried, found in zip(schedules, _means(sgd), strict=True)
        ],
    }
    return Chosen(Defaults(epochs=epochs, lr=lr, penalty=penalty), report)


def _means(accuracies: Figures) -> list[list[float]]:
    """Of each way, the mean over clients for each size."""
    means: list[list[float]] = np.round(np.mean(accuracies, axis=0).T, 2).tolist()
    return means


def _choose(accuracies: Figures) -> int:
    """The first way, so the most cautious, that is not worse than the best by more than a standard error.

    The one-standard-error rule (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2009, section
    7.10), on the differences between ways within each client.
    """
    by_client = np.mean(accuracies, axis=1)
    behind = by_client[:, [by_client.mean(0).argmax()]] - by_client
    error = behind.std(0, ddof=1) / np.sqrt(len(behind))
    return int(np.argmax(behind.mean(0) <= error))


def _draw(clients: Clients, rng: np.random.Generator) -> list[int]:
    """Training clients that have something to learn from and something to be judged by."""
    training = np.asarray(clients.training, np.int64)
    able = (sizes_of(clients.train)[training] > 0) & (sizes_of(clients.test)[training] > 0)
    return sorted(rng.permutation(training[able])[:_MOST_CLIENTS].tolist())


def _look_at(pictures: Pictures, rows: npt.NDArray[np.int64], dataset: Dataset, model: SplitModel) -> _Examples:
    batches = Batcher(dataset.mean, dataset.std, batch_size=100).plain(pictures, torch.from_numpy(rows))
    with torch.inference_mode():
        features = torch.cat([model.body(images) for images, _ in batches])
    return _Examples(features.numpy(), pictures.labels[rows].numpy())


def _exact(head: Head, known: _Examples, penalty: float, unseen: _Examples) -> float:
    return unseen.accuracy(fit_exact(head, known.features, known.labels, penalty).head)


def _sgd(head: Head, known: _Examples, lr: float, unseen: _Examples) -> list[float]:
    """The accuracy after each of the numbers of epochs; 0 where training ran away before."""
    after = dict.fromkeys(_EPOCHS, 0.0)

    def listen(epoch: int, trained: Head, _loss: float) -> None:
        if epoch in after:
            after[epoch] = unseen.accuracy(trained)

    schedule = default_schedule(Defaults(epochs=max(_EPOCHS), lr=lr))
    with suppress(UserError):
        fit_sgd(head, known.features, known.labels, schedule, listener=listen)
    return list(after.values())
