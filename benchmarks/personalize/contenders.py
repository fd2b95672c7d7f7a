"""Ways to a personal model, fbkit's and those that people would take otherwise.

A contender is a generator: it works an epoch, yields what tells the model's accuracy on the unseen pictures, and works
on. Decoded pictures are there before it starts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fbkit.benchmarks.personalize.subject import Subject
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.shuffle import epoch_order
from fbkit.device_runtime.solvers.sgd import Schedule

FULL_LR = 0.001  # of the paper's full fine-tuning

Accuracy = Callable[[], float]
Contender = Callable[[Subject, Schedule], Iterator[Accuracy]]


def torch_body_each_epoch(subject: Subject, schedule: Schedule) -> Iterator[Accuracy]:
    """The head alone is trained, and the frozen body runs anew for every batch."""
    body, images = subject.model.body, subject.images()

    def features(rows: Tensor) -> Tensor:
        with torch.no_grad():
            out: Tensor = body(images[rows])
            return out

    yield from _train_head(subject, schedule, features)


def torch_cached_features(subject: Subject, schedule: Schedule) -> Iterator[Accuracy]:
    """The body runs once, and the head is trained on what it gave."""
    body, images = subject.model.body, subject.images()
    with torch.no_grad():
        found = torch.cat([body(part) for part in images.split(schedule.batch_size)])
    yield from _train_head(subject, schedule, lambda rows: found[rows])


def _train_head(subject: Subject, schedule: Schedule, features: Callable[[Tensor], Tensor]) -> Iterator[Accuracy]:
    head = nn.Linear(subject.model.head.in_features, subject.model.head.out_features)
    head.load_state_dict(subject.model.head.state_dict())
    labels = torch.from_numpy(subject.labels)
    optimizer = torch.optim.SGD(head.parameters(), schedule.lr, schedule.momentum)
    for rows in _epochs(len(labels), schedule):
        for batch in rows.split(schedule.batch_size):
            optimizer.zero_grad()
            cross_entropy(head(features(batch)), labels[batch]).backward()
            optimizer.step()
        yield partial(head_accuracy, subject, head.weight.detach().numpy(), head.bias.detach().numpy())


def torch_full(subject: Subject, schedule: Schedule) -> Iterator[Accuracy]:
    """Body and head are trained, at the paper's rate for that."""
    model, images, labels = copy.deepcopy(subject.model), subject.images(), torch.from_numpy(subject.labels)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.SGD(model.parameters(), FULL_LR, schedule.momentum)

    def accuracy() -> float:
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(part) for part in torch.from_numpy(subject.unseen).split(schedule.batch_size)])
        return 100 * float((logits.argmax(1).numpy() == subject.unseen_labels).mean())

    for rows in _epochs(len(labels), schedule):
        model.train()
        for batch in rows.split(schedule.batch_size):
            optimizer.zero_grad()
            cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        yield accuracy


def _epochs(pictures: int, schedule: Schedule) -> Iterator[Tensor]:
    """The pictures in the order that fbkit takes them, epoch by epoch."""
    for epoch in count(1):
        if epoch > schedule.epochs:
            return
        yield torch.from_numpy(epoch_order(pictures, schedule.seed, epoch))


def head_accuracy(
    subject: Subject, weight: np.typing.NDArray[np.float32], bias: np.typing.NDArray[np.float32]
) -> float:
    """Percent of the unseen pictures, with the bundle's body."""
    return Head(weight, bias).accuracy(subject.bundle.body.features(subject.unseen), subject.unseen_labels)
