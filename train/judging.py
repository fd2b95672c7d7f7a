"""Running the present model over pictures to judge it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fbkit.train.federation import Federation
from fbkit.train.models import norm_layers
from fbkit.train.recipe import StatisticsName
from fbkit.train.seeds import Purpose, torch_stream

Split = Literal["train", "test"]


def judge_by(federation: Federation, statistics: StatisticsName) -> None:
    """Put the model into eval mode, with normalisation by the batch or by static statistics. No statistics move."""
    federation.model.eval()
    for layer in norm_layers(federation.model).values():
        layer.train(statistics == "batch")


def mixed(federation: Federation, indices: Tensor, *path: int) -> Tensor:
    """The indices in a random order that is always the same, so that a batch mixes the classes."""
    stream = torch_stream(federation.recipe.seed, Purpose.EVALUATION_ORDER, *path)
    return indices[torch.randperm(len(indices), generator=stream)]


def score(federation: Federation, indices: Tensor, statistics: StatisticsName, split: Split) -> tuple[int, float]:
    """How many of the pictures the present model gets right, and the sum of its losses on them."""
    pictures = federation.dataset.train if split == "train" else federation.dataset.test
    judge_by(federation, statistics)
    correct, loss = 0, 0.0
    with torch.inference_mode():
        for images, labels in federation.batcher(augmented=False).plain(pictures, indices):
            logits = federation.model(images)
            right = (logits.argmax(1) == labels) & logits.isfinite().all(1)  # what diverged is never right
            correct += int(right.sum())
            loss += float(cross_entropy(logits, labels, reduction="sum"))
    return correct, loss
