"""ExecuTorch's own training API on the joint graph of body and head: forward and backward pass in one .pte."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fbkit.benchmarks.personalize.contenders import Accuracy, head_accuracy
from fbkit.benchmarks.personalize.subject import Subject
from fbkit.device_runtime.shuffle import epoch_order
from fbkit.device_runtime.solvers.sgd import Schedule
from fbkit.export.folding import fold_body
from fbkit.export.quiet import quiet_exporters

_NOT_COUNTED = -100


class _BodyHeadAndLoss(nn.Module):
    """The loss comes first, as the training API wants it; only the head asks for gradients."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body.requires_grad_(False)
        self.head = nn.Linear(head.in_features, head.out_features)
        self.head.load_state_dict(head.state_dict())

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.head(self.body(images))
        return cross_entropy(logits, labels), logits.detach()


def lower_joint_graph(subject: Subject, batch: int) -> bytes:
    """With the body on XNNPACK, which takes it as it takes an inference graph, since nothing in it is trained."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch.export.experimental import _export_forward_backward

    module = _BodyHeadAndLoss(fold_body(subject.model.body), subject.model.head)
    spec = subject.bundle.manifest.input
    example = (torch.zeros(batch, spec.channels, spec.height, spec.width), torch.zeros(batch, dtype=torch.int64))
    with quiet_exporters():
        joint = _export_forward_backward(torch.export.export(module, example))
        lowered = to_edge_transform_and_lower(joint, partitioner=[XnnpackPartitioner()])
        return bytes(lowered.to_executorch().buffer)


def executorch_joint_graph(program: bytes, subject: Subject, schedule: Schedule) -> Iterator[Accuracy]:
    """``program`` is ``lower_joint_graph``'s, for the schedule's batches; lowering is the cluster's work, not timed."""
    from executorch.extension.training import _load_for_executorch_for_training, get_sgd_optimizer

    with TemporaryDirectory() as folder:
        path = Path(folder) / "joint.pte"
        path.write_bytes(program)
        module = _load_for_executorch_for_training(str(path))
        images, labels = subject.images(), torch.from_numpy(subject.labels)
        optimizer = None
        for epoch in range(1, schedule.epochs + 1):
            rows = torch.from_numpy(epoch_order(len(labels), schedule.seed, epoch))
            for batch in rows.split(schedule.batch_size):
                missing = schedule.batch_size - len(batch)
                padded = torch.cat([images[batch], torch.zeros(missing, *images.shape[1:])])
                counted = torch.cat([labels[batch], torch.full((missing,), _NOT_COUNTED)])
                module.forward_backward("forward", (padded, counted))
                if optimizer is None:
                    named = module.named_parameters()
                    optimizer = get_sgd_optimizer(named, schedule.lr, schedule.momentum, 0, 0, False)
                optimizer.step(module.named_gradients())
            found = module.named_parameters()
            weight, bias = (found[f"head.{name}"].numpy().astype(np.float32) for name in ("weight", "bias"))
            yield partial(head_accuracy, subject, weight, bias)
