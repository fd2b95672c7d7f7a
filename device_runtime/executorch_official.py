"""The adapter for the official ``executorch`` package: the one module of the device runtime that imports torch.

It is imported only when a .pte bundle is opened.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.chatter import without_chatter

with without_chatter():
    import torch
    from executorch.runtime import Runtime


class OfficialProgram:
    """A .pte file on executorch's Python bindings. The bytes stay referenced: methods read them in place."""

    def __init__(self, data: bytes) -> None:
        self.runtime = f"executorch {importlib.metadata.version('executorch')}"
        self._data = data
        self._program = Runtime.get().load_program(data)
        self._methods: dict[str, Any] = {}

    def run(self, method: str, arrays: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        if method not in self._methods:
            self._methods[method] = self._program.load_method(method)
        outputs = self._methods[method].execute([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
        return [output.numpy().copy() for output in outputs]
