"""The SGD step by the bundle's own graph: what a device does whose only mathematics is its inference runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import Manifest
from fbkit.device_runtime.solvers.sgd import SgdState
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError

Arrays = list[npt.NDArray[Any]]


class GraphStep:
    """A step graph takes a fixed number of rows; a smaller batch is padded with rows of weight zero.

    Inputs, in order: features [B, F], labels int64 [B], row weights [B], weight [C, F], bias [C], weight and bias
    momentum buffers, learning rate [1], momentum [1]. Outputs: loss [1], weight, bias, both buffers.
    """

    def __init__(self, run: Callable[[Arrays], Arrays], batch_size: int, name: str) -> None:
        self._run, self._batch_size, self._name = run, batch_size, name

    def __call__(
        self, state: SgdState, features: Float, labels: Labels, lr: float, momentum: float
    ) -> tuple[float, SgdState]:
        rows = len(labels)
        if rows > self._batch_size:
            raise UserError(f"{self._name} takes batches of at most {self._batch_size}, asked for {rows}")
        padded = np.zeros((self._batch_size, features.shape[1]), np.float32)
        padded[:rows] = features
        padded_labels = np.zeros(self._batch_size, np.int64)
        padded_labels[:rows] = labels
        weights = (np.arange(self._batch_size) < rows).astype(np.float32)
        head, buffers = state.head, state.buffers
        rates = [np.array([value], np.float32) for value in (lr, momentum)]
        outputs = self._run(
            [padded, padded_labels, weights, head.weight, head.bias, buffers.weight, buffers.bias, *rates]
        )
        expected = [(1,), head.weight.shape, head.bias.shape, head.weight.shape, head.bias.shape]
        if [output.shape for output in outputs] != expected:
            raise UserError(f"{self._name}: gives shapes {[output.shape for output in outputs]}, expected {expected}")
        loss, weight, bias, weight_buffer, bias_buffer = outputs
        return float(loss[0]), SgdState(Head(weight, bias), Head(weight_buffer, bias_buffer))


def open_graph_step(manifest: Manifest, data: bytes) -> GraphStep:
    """Open the bundle's step graph, given as checked bytes.

    Raises:
        UserError: it cannot be loaded.
    """
    if manifest.target == "onnx":
        from fbkit.device_runtime.onnx_runtime import OnnxGraph

        return GraphStep(OnnxGraph(data, manifest.head_step, threads=1).run, manifest.step_batch, manifest.head_step)
    from fbkit.device_runtime.pte_runtime import open_program

    program = open_program(data, manifest.head_step)
    return GraphStep(lambda arrays: program.run("forward", arrays), manifest.step_batch, manifest.head_step)
