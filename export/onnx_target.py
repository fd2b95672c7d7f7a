"""Lowering to ONNX, for onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from fbkit.export.head_step import INPUT_NAMES, OUTPUT_NAMES, HeadStep, example_inputs
from fbkit.export.target import STEP_BATCH, Lowered


def lower(body: nn.Module, shape: tuple[int, int, int], features: int, classes: int) -> Lowered:
    """A body for any batch size, and the step graph for STEP_BATCH rows."""
    any_batch = {0: torch.export.Dim("batch", min=1)}
    return Lowered(
        body=_to_onnx(body, (torch.zeros(2, *shape),), ("images",), ("features",), (any_batch,)),
        step=_to_onnx(
            HeadStep(classes), example_inputs(STEP_BATCH, features, classes), INPUT_NAMES, OUTPUT_NAMES, None
        ),
        body_batches=(),
        suffix="onnx",
    )


def _to_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...] | None,
) -> bytes:
    program = torch.onnx.export(
        module.eval(),
        inputs,
        input_names=list(input_names),
        output_names=list(output_names),
        dynamic_shapes=dynamic_shapes,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert program is not None  # noqa: S101  dynamo=True always returns a program
    data: bytes = _without_traces(program.model_proto).SerializeToString(deterministic=True)
    return data


def _without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop the exporter's notes: they hold stack traces with paths of this machine."""
    del model.metadata_props[:]
    model.doc_string = ""
    for graph in [model.graph, *model.functions]:
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
        for value in [*graph.value_info, *getattr(graph, "initializer", ())]:
            value.doc_string = ""
            del value.metadata_props[:]
    for value in [*model.graph.input, *model.graph.output]:
        value.doc_string = ""
        del value.metadata_props[:]
    return model
