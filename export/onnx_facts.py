"""What an ONNX body is made of."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import onnx
from torch import nn

from fbkit.export.graph_facts import Step, common_facts, largest_alive


def onnx_facts(body: nn.Module, shape: tuple[int, int, int], data: bytes) -> dict[str, Any]:
    """The facts of a body in ONNX, given the torch module it comes from and the file's bytes."""
    model = onnx.ModelProto.FromString(data)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    sizes = {value.name: _bytes(value) for value in (*graph.input, *graph.output, *graph.value_info)}
    steps = [Step(node.op_type, list(node.input), list(node.output)) for node in graph.node]
    operators = Counter(step.kind for step in steps)
    return common_facts(body, shape, operators, len(data) + largest_alive(steps, sizes))


def _bytes(value: onnx.ValueInfoProto) -> int:
    kind = value.type.tensor_type
    item: int = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
    return item * math.prod(int(dimension.dim_value) for dimension in kind.shape.dim)
