"""The adapter for the official ``executorch`` package: the one module of the device runtime that imports torch.

It is imported only when a .pte bundle is opened and no torch-free runtime is installed.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what the package's Python and C++ parts write to stderr while they load; errors still raise."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            logging.disable(before)


with _without_chatter():
    import torch
    from executorch.runtime import Runtime


class OfficialProgram:
    """A .pte file on executorch's Python bindings. The bytes stay referenced: methods read them in place."""

    def __init__(self, data: bytes) -> None:
        self.runtime = f"executorch {importlib.metadata.version('executorch')}"
        self._data = data
        with _without_chatter():
            self._program = Runtime.get().load_program(data)
        self._methods: dict[str, Any] = {}

    def run(self, method: str, arrays: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        if method not in self._methods:
            with _without_chatter():
                self._methods[method] = self._program.load_method(method)
        outputs = self._methods[method].execute([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays])
        return [output.numpy().copy() for output in outputs]
