"""What a body is worth without the head: class templates, and a linear probe."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from fbkit.train.federation import Federation
from fbkit.train.judging import Split
from fbkit.train.models import judge_by
from fbkit.train.recipe import StatisticsName

# Weak enough to let the features speak, strong enough for a unique solution where they separate the classes.
_PROBE_PENALTY = 1e-4
_PROBE_STEPS = 200


def features_of(
    federation: Federation, indices: Tensor, statistics: StatisticsName, split: Split
) -> tuple[Tensor, Tensor]:
    """The body's features of some pictures, float32 [N, F], and their labels, in the given order."""
    pictures = federation.dataset.train if split == "train" else federation.dataset.test
    judge_by(federation.model, statistics)
    with torch.inference_mode():
        batches = [
            (federation.model.body(images), labels)
            for images, labels in federation.batcher(augmented=False).plain(pictures, indices)
        ]
    return torch.cat([features for features, _ in batches]), torch.cat([labels for _, labels in batches])


def class_templates(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean feature of each class that occurs, float32 [K, F], and the classes, int64 [K]."""
    classes, places = labels.unique(return_inverse=True)
    members = one_hot(places).to(features.dtype)
    return (members.T @ features) / members.sum(0)[:, None], classes


def nearest_template(features: Tensor, templates: Tensor, classes: Tensor) -> Tensor:
    """The class of the template with the smallest Euclidean distance to each row of ``features``."""
    return classes[torch.cdist(features, templates).argmin(1)]


def linear_probe(features: Tensor, labels: Tensor, judged: Tensor, classes: int) -> Tensor:
    """Fit softmax regression to frozen features (standardised, weak penalty, L-BFGS); predict the classes of others."""
    with torch.inference_mode(mode=False):
        mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
        inputs = ((features - mean) / std).clone()
        targets = labels.clone()
        weight = torch.zeros(classes, features.shape[1], device=features.device, requires_grad=True)
        bias = torch.zeros(classes, device=features.device, requires_grad=True)
        solver = torch.optim.LBFGS([weight, bias], max_iter=_PROBE_STEPS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            solver.zero_grad()
            value = cross_entropy(inputs @ weight.T + bias, targets) + _PROBE_PENALTY / 2 * weight.square().sum()
            value.backward()
            return value

        solver.step(loss)
        with torch.no_grad():
            return (((judged - mean) / std) @ weight.T + bias).argmax(1)
