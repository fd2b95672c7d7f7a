"""Lowering to ExecuTorch's .pte, with XNNPACK for the body."""

from __future__ import annotations

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower
from torch import nn

from fbkit.export.head_step import HeadStep, example_inputs
from fbkit.export.target import STEP_BATCH, Lowered

# Fixed batches as methods of one program with shared weights: a dynamic batch fails for some networks under XNNPACK.
BODY_BATCHES = (1, 32)


def lower(body: nn.Module, shape: tuple[int, int, int], features: int, classes: int) -> Lowered:
    """A body with one method for each of BODY_BATCHES, and the step graph for STEP_BATCH rows as method ``forward``."""
    bodies = {f"b{batch}": torch.export.export(body.eval(), (torch.zeros(batch, *shape),)) for batch in BODY_BATCHES}
    lowered = to_edge_transform_and_lower(
        bodies, partitioner={name: [XnnpackPartitioner()] for name in bodies}
    ).to_executorch()
    step = torch.export.export(HeadStep(classes).eval(), example_inputs(STEP_BATCH, features, classes))
    return Lowered(
        body=bytes(lowered.buffer),
        step=bytes(to_edge_transform_and_lower(step).to_executorch().buffer),
        body_batches=BODY_BATCHES,
        suffix="pte",
    )
