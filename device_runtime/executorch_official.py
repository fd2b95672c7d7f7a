"""The adapter for the official ``executorch`` package: the one module of the device runtime that imports torch.

It is imported only when a .pte bundle is opened.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.chatter import without_chatter

# The bindings that executorch.runtime wraps, in a third of its time: it imports the exporter too.
with without_chatter():
    import torch
    from executorch.extension.pybindings import _C


class OfficialProgram:
    """A .pte file on executorch's Python bindings. The bytes stay referenced: methods read them in place."""

    def __init__(self, data: bytes) -> None:
        self.runtime = f"executorch {importlib.metadata.version('executorch')}"
        self._data = data
        self._program = _C._load_program_from_buffer(data, program_verification=_C.Verification.InternalConsistency)
        self._methods: dict[str, Any] = {}

    def run(self, method: str, arrays: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        if method not in self._methods:
            self._methods[method] = self._program.load_method(method)
        outputs = self._methods[method]([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
        return [output.numpy().copy() for output in outputs]
