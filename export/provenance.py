"""Where a bundle comes from, as its manifest says it."""

from __future__ import annotations

import importlib.metadata
import os
from datetime import UTC, datetime
from typing import Any

import fbkit
from fbkit.errors import UserError
from fbkit.export.exportable import Exportable

# What quantizes for a target, beside the target's own package.
_QUANTIZERS = {"onnx": "onnxruntime", "executorch": "torchao"}


def export_provenance(
    exportable: Exportable, target: str, precision: str, keep_float: tuple[str, ...]
) -> dict[str, Any]:
    """The model's provenance, and the export's: when, with which versions, calibrated on what, and what stays fp32.

    Raises:
        UserError: SOURCE_DATE_EPOCH is no time.
    """
    packages = ["torch", target, *([_QUANTIZERS[target]] if precision == "int8" else [])]
    calibration = exportable.calibration
    return {
        "fbkit": fbkit.__version__,
        "exported": _now(),
        "exported_with": {name: importlib.metadata.version(name) for name in packages},
        **exportable.provenance,
        **({} if calibration is None else {"calibrated_on": calibration.fingerprint, "keep_float": list(keep_float)}),
        "verified_on": exportable.verification.fingerprint,
    }


def _now() -> str:
    """ISO 8601 in UTC; of SOURCE_DATE_EPOCH where that is set, so that a bundle can be made again to the last bit.

    https://reproducible-builds.org/specs/source-date-epoch/
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        return _text(datetime.now(UTC))
    try:
        return _text(datetime.fromtimestamp(int(given), UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(
            f"SOURCE_DATE_EPOCH = {given!r}: must be a time in whole seconds since 1970, as from: date +%s"
        ) from error


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
