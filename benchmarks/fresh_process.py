"""What a device sees that has just been switched on: start, opening, first prediction, most memory.

python -m fbkit.benchmarks.fresh_process BUNDLE PICTURES THREADS STARTED RESULT.json
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fbkit.benchmarks.machine import memory_kib
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.personalizer import Personalizer
from fbkit.errors import UserError
from fbkit.files import read_json, write_json


@dataclass(frozen=True)
class FreshProcess:
    """Seconds from the start of Python to the end of the imports, to open a verified bundle and to predict once.

    And memory in bytes: then, at most until then, and at most until after a personalization; None where the system does
    not tell.
    """

    start: float
    opening: float
    first_prediction: float
    memory_steady: int | None
    memory_predicting: int | None
    memory_personalizing: int | None


def measure_fresh_process(bundle: Path, pictures: Path, threads: int | None) -> FreshProcess:
    """threads: of an ONNX body; None leaves them to onnxruntime.

    Raises UserError if the process fails.
    """
    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        arguments = [bundle, pictures, threads or 0, time.time(), result]
        command = [sys.executable, "-m", __name__, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{bundle}: the process to be measured ended with {done.returncode}: {done.stderr.strip()}")
        return FreshProcess(**read_json(result))


def main(folder: Path, pictures: Path, threads: int | None, started: float, result: Path) -> None:
    start = time.time() - started
    began = time.perf_counter()
    bundle = Bundle.open(folder, threads=threads)
    opened = time.perf_counter()
    Personalizer(bundle).predict(next(pictures.glob("*/*")))
    predicted = time.perf_counter()
    memory = _memory("VmRSS"), _memory("VmHWM")
    Personalizer(bundle, result.parent / "profile").fit(pictures)
    found = FreshProcess(start, opened - began, predicted - opened, *memory, _memory("VmHWM"))
    write_json(result, vars(found))


def _memory(name: str) -> int | None:
    kib = memory_kib(name)
    return None if kib is None else 1024 * kib


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) or None, float(sys.argv[4]), Path(sys.argv[5]))
