"""What was found of each cell, from its bundle's manifest and its times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fbkit.benchmarks.export_matrix.cells import Cell
from fbkit.benchmarks.machine import describe_machine
from fbkit.device_runtime.manifest import read_manifest
from fbkit.files import read_json, write_json

SCHEMA, VERSION = "fbkit.export-matrix", 1


@dataclass(frozen=True)
class Found:
    """The figures of a cell.

    Attributes:
        trained: whether the weights were; accuracies are known only then.
        shape: channels, height and width of a picture.
        macs: multiply-accumulates for a picture.
        pictures: on which the bundle was compared with torch.
        torch_accuracy, bundle_accuracy: percent.
        feature_error: largest difference over torch's largest feature; feature_error_l2: of the root mean squares.
        agreement: percent of the bundle's predictions that are torch's.
        keep_float: modules that export advised to keep in fp32.
        opening_ms: from the file's bytes to the first picture's features.
        alone_ms, batch_ms: an image, one alone and in a batch of 32.
        peak_bytes: most memory that reading, opening and one picture take beyond the runtime's own; None where the
            system does not tell.
        expected_bytes: the manifest's estimate of it.
    """

    model: str
    target: str
    precision: str
    trained: bool
    shape: tuple[int, int, int]
    parameters: int
    macs: int
    body_bytes: int
    pictures: int
    torch_accuracy: float | None
    bundle_accuracy: float | None
    feature_error: float
    feature_error_l2: float
    agreement: float
    keep_float: tuple[str, ...]
    runtime: str
    opening_ms: float
    alone_ms: float
    batch_ms: float
    peak_bytes: int | None
    expected_bytes: int

    @property
    def lost(self) -> float | None:
        """Points of accuracy."""
        if self.torch_accuracy is None or self.bundle_accuracy is None:
            return None
        return self.torch_accuracy - self.bundle_accuracy


def read_cell(cell: Cell, bundle: Path, times: Path) -> Found:
    """The figures of a cell that was exported and timed."""
    manifest, measured = read_manifest(bundle), read_json(times)
    verification, spec = manifest.verification, manifest.input
    return Found(
        model=cell.model,
        target=cell.target,
        precision=cell.precision,
        trained="recipe" in manifest.provenance,
        shape=(spec.channels, spec.height, spec.width),
        parameters=manifest.graph["parameters"],
        macs=manifest.graph["macs"],
        body_bytes=verification["body_bytes"],
        pictures=verification["pictures"],
        torch_accuracy=verification.get("torch_accuracy"),
        bundle_accuracy=verification.get("bundle_accuracy"),
        feature_error=verification["feature_error"],
        feature_error_l2=verification["feature_error_l2"],
        agreement=verification["agreement"],
        keep_float=tuple(manifest.provenance.get("keep_float", ())),
        runtime=measured["runtime"],
        opening_ms=measured["opening_ms"],
        alone_ms=measured["alone_ms"],
        batch_ms=measured["batch_ms"],
        peak_bytes=measured["peak_bytes"],
        expected_bytes=manifest.graph["memory_bytes"],
    )


def write_results(found: Sequence[Found], failed: Mapping[Cell, str], path: Path) -> None:
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "machine": describe_machine(),
        "cells": [asdict(one) for one in found],
        "failed": {str(cell): message for cell, message in failed.items()},
    }
    write_json(path, result)
