"""Result files, whichever benchmark wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fbkit.benchmarks.convergence.result import SCHEMA as CONVERGENCE
from fbkit.benchmarks.convergence.result import ConvergenceResult, convergence_result_from_json
from fbkit.benchmarks.device.result import SCHEMA as DEVICE
from fbkit.benchmarks.device.result import DeviceResult, device_result_from_json
from fbkit.errors import UserError
from fbkit.files import read_json

Result = ConvergenceResult | DeviceResult


def read_result(path: Path) -> Result:
    """Of fbkit bench convergence (its folder will do) or of fbkit bench device.

    Raises:
        UserError: no such file, or it is no such result.
    """
    if path.is_dir():
        path = path / "convergence.json"
    value = read_json(path)
    if value.get("schema") == CONVERGENCE:
        return convergence_result_from_json(value, str(path))
    if value.get("schema") == DEVICE:
        return device_result_from_json(value, str(path))
    raise UserError(f"{path}: neither a result of fbkit bench convergence nor of fbkit bench device")


def read_results(paths: Sequence[Path]) -> list[tuple[Path, Result]]:
    """As ``read_result``, each once."""
    return [(path, read_result(path)) for path in dict.fromkeys(paths)]
