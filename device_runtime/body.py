"""The frozen body, on whichever runtime its file is for."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

import numpy as np

from fbkit.device_runtime.manifest import InputSpec, Manifest
from fbkit.device_runtime.tensors import Bytes, Float


class Body(Protocol):
    """Images to features. ``runtime`` names what computes them, for people."""

    runtime: str

    def features(self, images: Float) -> Float:
        """float32 [N, channels, height, width], normalised, to float32 [N, features]; N of at least 1."""


def open_body(manifest: Manifest, data: bytes, threads: int | None) -> Body:
    """Open the body's file, given as bytes that were checked.

    ``threads`` is for onnxruntime (None: its choice); ExecuTorch uses its own pool.

    Raises:
        UserError: the file cannot be loaded, or its runtime is not installed.
    """
    return open_network(manifest, manifest.body, manifest.features, data, threads)


def open_network(manifest: Manifest, name: str, width: int, data: bytes, threads: int | None) -> Body:
    """As ``open_body``, for any file ``name`` that takes the body's images and gives ``width`` numbers for each."""
    if manifest.target == "onnx":
        from fbkit.device_runtime.onnx_runtime import OnnxBody

        return OnnxBody(data, name, width, manifest.input.at_once, threads)
    from fbkit.device_runtime.pte_runtime import PteBody, open_program

    return PteBody(open_program(data, name), manifest.body_batches, width, name)


def import_runtime(target: str) -> None:
    """Import what runs a target's files.

    Raises:
        NoRuntime: it is not installed.
    """
    if target == "onnx":
        import_module("fbkit.device_runtime.onnx_runtime")
    else:
        from fbkit.device_runtime.pte_runtime import find_runtime

        find_runtime()


def normalise(pictures: Bytes, spec: InputSpec) -> Float:
    """uint8 [N, H, W, C] to the body's float32 [N, C, H, W]: (value / 255 - mean) / std."""
    mean = np.array(spec.mean, np.float32)
    std = np.array(spec.std, np.float32)
    scaled = (pictures.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
