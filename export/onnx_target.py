"""Lowering to ONNX, for onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.export import ExportedProgram

from fbkit.export.capture import capture
from fbkit.export.head_step import INPUT_NAMES, OUTPUT_NAMES, HeadStep, example_inputs
from fbkit.export.keep_float import check_keep_float
from fbkit.export.onnx_facts import onnx_facts
from fbkit.export.onnx_int8 import quantize
from fbkit.export.onnx_plain import plain_bytes
from fbkit.export.target import STEP_BATCH, Lowered, Request


def lower(request: Request) -> Lowered:
    """A body for any batch size, and the step graph for STEP_BATCH rows.

    Raises:
        UserError: ``keep_float`` names a module that the body does not have; the body's forward has no one graph for
            any number of pictures.
    """
    check_keep_float(request.body, request.keep_float)
    body = _to_onnx(capture(request.body, request.shape), ("images",), ("features",), ({0: "batch"},))
    if request.precision == "int8":
        assert request.calibration is not None  # noqa: S101  the request's promise
        body = quantize(body, request.calibration, request.keep_float)
    example = example_inputs(STEP_BATCH, request.head.in_features, request.step_classes)
    step = torch.export.export(HeadStep(request.step_classes).eval(), example)
    model = plain_bytes(_with_head(body, request.head)) if request.with_model else None
    written = plain_bytes(body)
    return Lowered(
        body=written,
        step=plain_bytes(_to_onnx(step, INPUT_NAMES, OUTPUT_NAMES)),
        body_batches=(),
        suffix="onnx",
        model=model,
        graph=onnx_facts(request.body, request.shape, written),
    )


def _to_onnx(
    program: ExportedProgram,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dimension_names: tuple[dict[int, str], ...] | None = None,
) -> onnx.ModelProto:
    exported = torch.onnx.export(
        program,
        input_names=list(input_names),
        output_names=list(output_names),
        dynamic_shapes=dimension_names,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    assert exported is not None  # noqa: S101  dynamo=True always returns a program
    return exported.model_proto


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
