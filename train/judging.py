"""Running the present model over pictures to judge it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fbkit.train.federation import Federation
from fbkit.train.models import judge_by
from fbkit.train.recipe import StatisticsName
from fbkit.train.seeds import Purpose, torch_stream

Split = Literal["train", "test"]


def mixed(federation: Federation, indices: Tensor, *path: int, purpose: Purpose = Purpose.EVALUATION_ORDER) -> Tensor:
    """The indices in a random order that is always the same, so that a batch mixes the classes as in training."""
    stream = torch_stream(federation.recipe.seed, purpose, *path)
    return indices[torch.randperm(len(indices), generator=stream)]


def score(federation: Federation, indices: Tensor, statistics: StatisticsName, split: Split) -> tuple[int, float]:
    """How many of the pictures the present model gets right, and the sum of its losses on them."""
    pictures = federation.dataset.train if split == "train" else federation.dataset.test
    judge_by(federation.model, statistics)
    correct, loss = 0, 0.0
    with torch.inference_mode():
        for images, labels in federation.batcher(augmented=False).plain(pictures, indices):
            logits = federation.model(images)
            right = (logits.argmax(1) == labels) & logits.isfinite().all(1)  # what diverged is never right
            correct += int(right.sum())
            loss += float(cross_entropy(logits, labels, reduction="sum"))
    return correct, loss
