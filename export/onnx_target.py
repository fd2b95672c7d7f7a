"""Lowering to ONNX, for onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from fbkit.export.head_step import INPUT_NAMES, OUTPUT_NAMES, HeadStep, example_inputs
from fbkit.export.keep_float import check_keep_float
from fbkit.export.onnx_facts import onnx_facts
from fbkit.export.onnx_int8 import quantize
from fbkit.export.onnx_plain import plain_bytes
from fbkit.export.target import STEP_BATCH, Lowered, Request


def lower(request: Request) -> Lowered:
    """A body for any batch size, and the step graph for STEP_BATCH rows.

    Raises:
        UserError: ``keep_float`` names a module that the body does not have.
    """
    check_keep_float(request.body, request.keep_float)
    any_batch = {0: torch.export.Dim("batch", min=1)}
    body = _to_onnx(request.body, (torch.zeros(2, *request.shape),), ("images",), ("features",), (any_batch,))
    if request.precision == "int8":
        assert request.calibration is not None  # noqa: S101  the request's promise
        body = quantize(body, request.calibration, request.keep_float)
    example = example_inputs(STEP_BATCH, request.head.in_features, request.step_classes)
    step = _to_onnx(HeadStep(request.step_classes), example, INPUT_NAMES, OUTPUT_NAMES, None)
    model = plain_bytes(_with_head(body, request.head)) if request.with_model else None
    written = plain_bytes(body)
    return Lowered(
        body=written,
        step=plain_bytes(step),
        body_batches=(),
        suffix="onnx",
        model=model,
        graph=onnx_facts(request.body, request.shape, written),
    )


def _to_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_shapes: tuple[Any, ...] | None,
) -> onnx.ModelProto:
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
    return program.model_proto


def _with_head(body: onnx.ModelProto, head: nn.Linear) -> onnx.ModelProto:
    """A copy of the body that goes on to the logits; the head is fp32."""
    model = onnx.ModelProto()
    model.CopyFrom(body)
    (features,) = model.graph.output
    batch, _ = features.type.tensor_type.shape.dim
    logits = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [batch.dim_param, head.out_features])
    names = ("fbkit.head.weight", "fbkit.head.bias")
    model.graph.initializer.extend(
        numpy_helper.from_array(values.detach().numpy(), name)
        for name, values in zip(names, (head.weight, head.bias), strict=True)
    )
    model.graph.node.append(helper.make_node("Gemm", [features.name, *names], ["logits"], transB=1))
    model.graph.output[0].CopyFrom(logits)
    return model
