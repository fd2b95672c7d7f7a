"""A static int8 body for onnxruntime, calibrated on pictures."""

from __future__ import annotations

import ast
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from fbkit.export.keep_float import is_kept

CALIBRATION_BATCH = 32

# What onnxruntime's CPU kernels compute in 8 bits, or pass through as it is. It can mark more, such as group
# normalisation, but would compute that in fp32 and round before and after.
_QUANTIZED = (
    *("Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid"),
    *("MaxPool", "AveragePool", "Concat", "Split", "Slice", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"),
)
_SCOPES = "pkg.torch.onnx.name_scopes"


def quantize(model: onnx.ModelProto, images: Tensor, keep_float: tuple[str, ...]) -> onnx.ModelProto:
    """An int8 copy of a body as torch's exporter wrote it.

    Weights are signed, with a scale for each output channel; activations are unsigned, with a scale and a zero point
    for each tensor, from the least and the largest value seen. onnxruntime has its fastest kernels for this pair, on
    x86-64 and on Arm. Percentiles and moving averages of the ranges were tried: they cut features off, and the
    features' error was larger. The mean over each map at a body's end stays fp32, and features gain by it.

    Args:
        images: float32 [N, channels, height, width].
        keep_float: names of modules whose layers stay fp32.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _give_calls_weights_of_their_own(copy.graph)
    constants = {tensor.name for tensor in copy.graph.initializer}
    left_out = []
    for place, node in enumerate(copy.graph.node):
        node.name = f"n{place}"
        scopes = {note.key: note.value for note in node.metadata_props}.get(_SCOPES, "[]")
        # One scale for a tensor does not do justice to a constant of one value for each channel.
        by_constant = node.op_type in ("Add", "Mul") and not constants.isdisjoint(node.input)
        if by_constant or any(is_kept(scope, keep_float) for scope in ast.literal_eval(scopes)):
            left_out.append(node.name)
    with tempfile.TemporaryDirectory() as folder:
        written, prepared, quantized = (Path(folder, name) for name in ("written", "prepared", "quantized"))
        onnx.save(copy, written)
        # torch's exporter has folded what can be folded, and noted the shapes; what is added here are lacking types.
        quant_pre_process(written, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            _Batches(images, copy.graph.input[0].name),
            op_types_to_quantize=list(_QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=left_out,
            calibrate_method=CalibrationMethod.MinMax,
        )
        result = onnx.load(quantized)
    _drop_zero_points_of_biases(result)
    return result


def _give_calls_weights_of_their_own(graph: onnx.GraphProto) -> None:
    """Where a layer is called twice: onnxruntime fails to turn shared 8-bit weights into what some processors need."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    calls: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in weights:
            name = node.input[1]
            if calls[name]:
                copy = graph.initializer.add()
                copy.CopyFrom(weights[name])
                node.input[1] = copy.name = f"{name}@{calls[name]}"
            calls[name] += 1


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """The pictures, batch by batch, as the quantizer asks for them."""

    def __init__(self, images: Tensor, name: str) -> None:
        self._batches = iter(images.split(CALIBRATION_BATCH))
        self._name = name

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch.numpy()}


def _drop_zero_points_of_biases(model: onnx.ModelProto) -> None:
    """They are zero for every channel, which is what they are without them, too."""
    graph = model.graph
    zeros = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT32}
    dropped = set()
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[2] in zeros:
            dropped.add(node.input[2])
            del node.input[2]
    rest = [tensor for tensor in graph.initializer if tensor.name not in dropped]
    del graph.initializer[:]
    graph.initializer.extend(rest)
