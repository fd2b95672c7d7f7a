"""The SGD step by the bundle's own graph: what a device does whose only mathematics is its inference runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import Manifest
from fbkit.device_runtime.solvers.sgd import SgdState, StepSettings
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError

Array = npt.NDArray[Any]
Arrays = list[Array]


@dataclass(frozen=True)
class _GraphState(SgdState):
    """A state and a fit's settings as the graph takes them, so that what is padded once is not padded in every step.

    settings: which ones these are.
    tensors: weight [K, F], bias [K] and their momentum buffers; ``head`` and ``buffers`` are views of them.
    before, after: what the graph takes before and after them, made of the settings.
    """

    settings: StepSettings
    tensors: Arrays
    before: Arrays
    after: Arrays


class GraphStep:
    """A step graph takes a fixed number of rows and classes; docs/bundle.md says what else.

    A smaller batch is padded with rows of weight zero, a smaller head with classes that the mask leaves out. The graph
    of a bundle of version 1 takes its own number of classes only, and neither mask, weight decay nor penalty.
    """

    def __init__(self, run: Callable[[Arrays], Arrays], manifest: Manifest) -> None:
        self._run, self._name, self._version = run, manifest.head_step, manifest.version
        self._batch_size, self._classes = manifest.step_batch, manifest.step_classes

    def __call__(
        self, state: SgdState, features: Float, labels: Labels, settings: StepSettings
    ) -> tuple[float, SgdState]:
        rows, classes = len(labels), len(state.head.bias)
        if rows > self._batch_size:
            raise UserError(f"{self._name} takes batches of at most {self._batch_size}, asked for {rows}")
        if not isinstance(state, _GraphState) or state.settings is not settings:
            state = self._prepare(state, settings)
        batch = [_filled(array, self._batch_size) for array in (features, labels, np.ones(rows, np.float32))]
        outputs = self._run([*batch, *state.before, *state.tensors, *state.after])
        expected = [(1,), *(tensor.shape for tensor in state.tensors)]
        if [output.shape for output in outputs] != expected or any(output.dtype != np.float32 for output in outputs):
            found = [f"{output.dtype} {list(output.shape)}" for output in outputs]
            raise UserError(f"{self._name}: gives {', '.join(found)}; expected float32 {expected}")
        loss, *tensors = outputs
        weight, bias, weight_buffer, bias_buffer = (tensor[:classes] for tensor in tensors)
        moved = replace(state, head=Head(weight, bias), buffers=Head(weight_buffer, bias_buffer), tensors=tensors)
        return float(loss[0]), moved

    def _prepare(self, state: SgdState, settings: StepSettings) -> _GraphState:
        head, buffers, anchor, mask = state.head, state.buffers, settings.anchor, settings.class_mask
        classes = len(head.bias)
        if classes > self._classes:
            raise UserError(f"{self._name} takes at most {self._classes} classes, the head has {classes}; {_NUMPY}")
        tensors = self._padded(head.weight, head.bias, buffers.weight, buffers.bias)
        rates = [_scalar(settings.lr), _scalar(settings.momentum)]
        if self._version == 1:
            if mask is not None or classes < self._classes or settings.weight_decay or settings.penalty:
                raise UserError(
                    f"{self._name} is of a bundle of version 1, with no weight decay, penalty or class mask; {_NUMPY}"
                )
            return _GraphState(head, buffers, settings, tensors, [], rates)
        before = self._padded(np.ones(classes, np.float32) if mask is None else mask.astype(np.float32))
        after = [
            *self._padded(anchor.weight, anchor.bias),
            *rates,
            _scalar(settings.weight_decay),
            _scalar(settings.penalty),
        ]
        return _GraphState(head, buffers, settings, tensors, before, after)

    def _padded(self, *arrays: Array) -> Arrays:
        return [_filled(array, self._classes) for array in arrays]


_NUMPY = "compute the step with --step numpy"


def _scalar(value: float) -> Array:
    return np.array([value], np.float32)


def _filled(array: Array, rows: int) -> Array:
    """``array`` with rows of zeros added, up to ``rows``."""
    if len(array) == rows:
        return array
    filled = np.zeros((rows, *array.shape[1:]), array.dtype)
    filled[: len(array)] = array
    return filled


def open_graph_step(manifest: Manifest, data: bytes) -> GraphStep:
    """Open the bundle's step graph, given as checked bytes.

    Raises:
        UserError: it cannot be loaded.
    """
    if manifest.target == "onnx":
        from fbkit.device_runtime.onnx_runtime import OnnxGraph

        return GraphStep(OnnxGraph(data, manifest.head_step, threads=1).run, manifest)
    from fbkit.device_runtime.pte_runtime import open_program

    program = open_program(data, manifest.head_step)
    return GraphStep(lambda arrays: program.run("forward", arrays), manifest)
