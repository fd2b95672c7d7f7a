"""How good the common model is for everybody at once: all clients' pictures in one pool."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fbkit.train.federation import Federation
from fbkit.train.judging import mixed
from fbkit.train.recipe import StatisticsName
from fbkit.train.records import PooledAccuracies
from fbkit.train.representation import (
    class_templates,
    features_of,
    linear_probe,
    nearest_template,
)


def pooled_accuracies(federation: Federation, clients: Sequence[int], statistics: StatisticsName) -> PooledAccuracies:
    """Judge the server's model on the test pictures of ``clients``; template and probe learn from the training clients.

    The first worker does it and tells the others.
    """
    workers, owned = federation.workers, federation.clients
    found = torch.zeros(3, dtype=torch.float64, device=workers.device)
    if workers.is_first:
        own = mixed(federation, torch.cat([owned.train[client] for client in owned.training]), len(owned.train), 1)
        test = mixed(federation, torch.cat([owned.test[client] for client in clients]), len(owned.train))
        features, labels = features_of(federation, own, statistics, "train")
        judged, truth = features_of(federation, test, statistics, "test")
        with torch.inference_mode():
            guesses = [
                federation.model.head(judged).argmax(1),
                nearest_template(judged, *class_templates(features, labels)),
                linear_probe(features, labels, judged, len(federation.dataset.classes)),
            ]
        found += torch.stack([_percent(guess, truth) for guess in guesses])
    workers.add_up(found)
    accuracy, template, probe = found.tolist()
    return PooledAccuracies(accuracy=accuracy, template=template, probe=probe)


def _percent(guess: Tensor, truth: Tensor) -> Tensor:
    return 100 * (guess == truth).double().mean()
