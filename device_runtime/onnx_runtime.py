"""Bodies and step graphs on onnxruntime, with its telemetry off."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.tensors import Float, first_float
from fbkit.errors import UserError

# Before the import: some builds open a telemetry database while they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

onnxruntime.disable_telemetry_events()


# The entry in which an ONNX tensor names the file that holds its values; onnxruntime would open that file, wherever it
# is. In protobuf: field 1, 8 bytes long, "location", with tag and length possibly written longer than need be.
_EXTERNAL_DATA = re.compile(rb"(\x0a|\x8a\x80*\x00)(\x08|\x88\x80*\x00)location")


# One operator, MatMulInteger, of matrices a (uint8) and b (int8).
_PRODUCT = (
    b'\x08\x08\x12\x00:>\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01gZ\t\n\x01a\x12\x04\n\x02\x08\x02'
    b"Z\t\n\x01b\x12\x04\n\x02\x08\x03b\t\n\x01y\x12\x04\n\x02\x08\x06B\x04\n\x00\x10\n"
)


@cache
def _sums_overflow() -> bool:
    """Whether onnxruntime's quickest sums of 8-bit products are wrong here, as on x86 processors without VNNI.

    They add in 16 bits there, and cut off what does not fit: an int8 body's features were off by a tenth. onnxruntime
    has slower sums that are right, and takes them where the session asks for precision.
    """
    session = onnxruntime.InferenceSession(_PRODUCT, providers=["CPUExecutionProvider"])
    (total,) = session.run(None, {"a": np.full((1, 2), 255, np.uint8), "b": np.full((2, 1), 127, np.int8)})
    return int(total[0, 0]) != 2 * 255 * 127


class OnnxGraph:
    """One ONNX model, run on the CPU."""

    def __init__(self, data: bytes, name: str, threads: int | None) -> None:
        if _EXTERNAL_DATA.search(data):
            raise UserError(
                f"{name}: refers to data in other files, which nothing vouches for; a bundle's graph is whole"
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong comes back as an exception and is said once
        options.add_session_config_entry("session.load_model_format", "ONNX")  # not onnxruntime's own, which it guesses
        if _sums_overflow():
            options.add_session_config_entry("session.x64quantprecision", "1")
        if threads:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(f"{name}: onnxruntime cannot load it ({error})") from error
        self._name = name
        self.inputs = [node.name for node in self._session.get_inputs()]

    def run(self, arrays: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        if len(arrays) != len(self.inputs):
            raise UserError(f"{self._name}: takes {len(self.inputs)} inputs, expected {len(arrays)}")
        try:
            outputs: list[npt.NDArray[Any]] = self._session.run(None, dict(zip(self.inputs, arrays, strict=True)))
        except Exception as error:
            raise UserError(f"{self._name}: onnxruntime cannot run it ({error})") from error
        if not all(isinstance(output, np.ndarray) for output in outputs):
            raise UserError(f"{self._name}: gives something else than tensors")
        return outputs


class OnnxBody:
    """A body that takes any batch; large ones are cut so that memory stays bounded."""

    def __init__(self, data: bytes, name: str, features: int, at_once: int, threads: int | None) -> None:
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self._graph = OnnxGraph(data, name, threads)
        self._name, self._features, self._at_once = name, features, at_once

    def features(self, images: Float) -> Float:
        starts = range(0, len(images), self._at_once)
        return np.concatenate([self._run(images[start : start + self._at_once]) for start in starts])

    def _run(self, images: Float) -> Float:
        return first_float(self._graph.run([images]), (len(images), self._features), f"{self._name}: it")
