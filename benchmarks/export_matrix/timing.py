"""How long a bundle's body takes, on one thread, and how much memory: in a process of its own.

python -m fbkit.benchmarks.export_matrix.timing BUNDLE RESULT.json
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fbkit.benchmarks.machine import describe_machine, memory_kib
from fbkit.device_runtime.body import Body, import_runtime, open_body
from fbkit.device_runtime.bundle import read_contents
from fbkit.device_runtime.manifest import FILE_NAME, read_manifest
from fbkit.device_runtime.pte_runtime import has_official_runtime
from fbkit.device_runtime.tensors import Float
from fbkit.errors import UserError
from fbkit.files import read_json, sha256_file, write_json

BATCH = 32
_OPENINGS = 5
_WARM_UP = 3
_LEAST_PASSES, _MOST_PASSES = 10, 200
_SECONDS = 1.0  # of passes, between the least and the most


def time_bundle(bundle: Path, result: Path) -> None:
    """Time it into the file ``result``.

    Raises:
        UserError: it failed; the log beside the result has its words.
    """
    log = result.with_suffix(".log")
    command = [sys.executable, "-m", __name__, str(bundle), str(result)]
    with log.open("wb") as words:
        code = subprocess.call(command, stdout=words, stderr=words, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if code:
        raise UserError(f"{bundle}: timing ended with {code}; {log} has its words")
    log.unlink()


def is_timed(bundle: Path, result: Path) -> bool:
    """Whether ``result`` is of this bundle and of this machine."""
    if not result.exists():
        return False
    found = read_json(result)
    return (found["bundle"], found["machine"]) == (_digest(bundle), describe_machine())


def main(folder: Path, result: Path) -> None:
    target = read_manifest(folder).target
    import_runtime(target)
    if target == "executorch":
        _take_one_thread()
    resident = _forget_peak()
    contents = read_contents(folder)
    inputs = contents.probe.inputs
    pictures: Float = np.resize(inputs, (BATCH, *inputs.shape[1:]))  # over and over

    def open_and_look() -> Body:
        body = open_body(contents.manifest, contents.body, threads=1)
        body.features(pictures[:1])
        return body

    body = open_and_look()
    peak = memory_kib("VmHWM")
    times: dict[str, Any] = {
        "opening_ms": _median_ms(open_and_look, _OPENINGS, _OPENINGS),
        "alone_ms": _median_ms(lambda: body.features(pictures[:1]), _LEAST_PASSES, _MOST_PASSES),
        "batch_ms": _median_ms(lambda: body.features(pictures), _LEAST_PASSES, _MOST_PASSES) / BATCH,
        "peak_bytes": None if resident is None or peak is None else 1024 * (peak - resident),
    }
    write_json(result, {"bundle": _digest(folder), "machine": describe_machine(), "runtime": body.runtime, **times})


def _median_ms(work: Callable[[], object], least: int, most: int) -> float:
    for _ in range(_WARM_UP):
        work()
    seconds: list[float] = []
    while len(seconds) < least or (len(seconds) < most and sum(seconds) < _SECONDS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def _take_one_thread() -> None:
    if not has_official_runtime():
        return  # the other one has no say in it
    from executorch.extension.pybindings import _C

    _C._unsafe_reset_threadpool(1)


def _forget_peak() -> int | None:
    """Memory of this process now, in KiB, from which on its peak is counted; None where only Linux would tell."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return memory_kib("VmRSS")


def _digest(bundle: Path) -> str:
    return sha256_file(bundle / FILE_NAME)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
