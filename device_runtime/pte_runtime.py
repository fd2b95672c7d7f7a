"""Bodies and step graphs in ExecuTorch's .pte format.

Two runtimes can run them: the official ``executorch`` package, which needs torch, and ``executorch-numpy-runtime``,
which does not (Python 3.12 and later). The official one is taken where it is installed: it is made for the version of
ExecuTorch that exported the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.chatter import without_chatter
from fbkit.device_runtime.tensors import Float, first_float
from fbkit.errors import UserError

Arrays = list[npt.NDArray[Any]]


class Program(Protocol):
    """A loaded .pte file. ``runtime`` names what runs it."""

    runtime: str

    def run(self, method: str, arrays: Arrays) -> Arrays:
        """Run one method on contiguous arrays; raises whatever its runtime raises."""


class NumpyRuntimeProgram:
    """On executorch-numpy-runtime."""

    def __init__(self, data: bytes) -> None:
        import executorch_numpy_runtime

        self.runtime = f"executorch-numpy-runtime {executorch_numpy_runtime.__version__}"
        self._program = executorch_numpy_runtime.Runtime.get().load_program(data)
        self._methods: dict[str, Any] = {}

    def run(self, method: str, arrays: Arrays) -> Arrays:
        if method not in self._methods:
            self._methods[method] = self._program.load_method(method)
        return list(self._methods[method](arrays))


class NoRuntime(UserError):
    """Nothing that runs .pte files is installed."""


def open_program(data: bytes, name: str) -> Program:
    """Load a .pte file on the runtime that is there.

    Raises:
        NoRuntime: no runtime is installed.
        UserError: the file cannot be loaded.
    """
    try:
        with without_chatter():
            program = find_runtime()(data)
        return _NamedProgram(program, name)
    except NoRuntime as error:
        raise NoRuntime(f"{name}: {error}") from error
    except Exception as error:
        raise UserError(f"{name}: ExecuTorch cannot load it ({error})") from error


def find_runtime() -> Callable[[bytes], Program]:
    """What opens a program's bytes on the runtime that is installed.

    Raises:
        NoRuntime: none is.
    """
    try:
        from fbkit.device_runtime.executorch_official import OfficialProgram
    except ModuleNotFoundError:
        try:
            import executorch_numpy_runtime  # noqa: F401  only whether it is there
        except ModuleNotFoundError as error:
            raise NoRuntime(
                "no runtime for .pte files is installed; use Python 3.12 or later and pip install 'fbkit[pte]' "
                "(no torch), or pip install 'fbkit[executorch]' (with torch), or export the run with --target onnx"
            ) from error
        return NumpyRuntimeProgram
    return OfficialProgram


def has_official_runtime() -> bool:
    """Whether programs run on the official package.

    Raises:
        NoRuntime: they run on none.
    """
    return find_runtime() is not NumpyRuntimeProgram


class _NamedProgram:
    """A program whose failures name the file, and which is quiet when a method runs for the first time."""

    def __init__(self, program: Program, name: str) -> None:
        self._program, self._name = program, name
        self._ran: set[str] = set()
        self.runtime = program.runtime

    def run(self, method: str, arrays: Arrays) -> Arrays:
        try:
            if method in self._ran:
                return self._program.run(method, arrays)
            with without_chatter():
                outputs = self._program.run(method, arrays)
            self._ran.add(method)
            return outputs
        except Exception as error:
            raise UserError(f"{self._name}: ExecuTorch cannot run its method {method} ({error})") from error


class PteBody:
    """A body exported for some fixed batch sizes, as methods b1, b32, ... of one program with shared weights."""

    def __init__(self, program: Program, batch_sizes: tuple[int, ...], features: int, name: str) -> None:
        self._program, self._batch_sizes, self._features, self._name = program, batch_sizes, features, name
        self.runtime = program.runtime

    def features(self, images: Float) -> Float:
        parts = []
        start = 0
        while start < len(images):
            rest = len(images) - start
            # A batch that is more than half full costs less, padded, than its pictures one by one.
            affordable = [batch for batch in self._batch_sizes if batch == 1 or batch < 2 * rest]
            size = rest if rest in affordable else max(affordable)
            parts.append(self._run(images[start : start + size], size))
            start += size
        return np.concatenate(parts)

    def _run(self, images: Float, size: int) -> Float:
        padded = np.zeros((size, *images.shape[1:]), np.float32)
        padded[: len(images)] = images
        outputs = self._program.run(f"b{size}", [padded])
        features = first_float(outputs, (size, self._features), f"{self._name}: its method b{size}")
        return features[: len(images)].copy()
