"""The pictures of a bundle's self-test.

They are drawn, not taken from anyone: a bundle goes to strangers, and clients' pictures must not travel with it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fbkit.device_runtime.body import normalise
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import InputSpec
from fbkit.device_runtime.tensors import Bytes, Float, pack_tensors

COUNT = 8


def drawn_pictures(spec: InputSpec, count: int = COUNT) -> Bytes:
    """Smooth random fields over the full range of grey values, always the same: uint8 [count, H, W, C]."""
    rng = np.random.default_rng(0)
    rows, columns = np.linspace(0, 1, spec.height), np.linspace(0, 1, spec.width)
    shape = (count, spec.channels, 4)
    frequency, phase = rng.uniform(0.5, 6, (*shape, 2)), rng.uniform(0, 2 * np.pi, shape)
    waves = np.sin(
        2 * np.pi * (frequency[..., 0, None, None] * rows[:, None] + frequency[..., 1, None, None] * columns)
        + phase[..., None, None]
    )
    field = waves.sum(2)
    low, high = field.min((2, 3), keepdims=True), field.max((2, 3), keepdims=True)
    pictures: Bytes = np.round(255 * (field - low) / (high - low)).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures)


def make_probe(spec: InputSpec, head: Head, features_of: Callable[[Float], Float]) -> bytes:
    """The probe's file: drawn pictures and what the exporting machine makes of them.

    Args:
        features_of: inputs float32 [N, C, H, W] to features float32 [N, F], as a device is to compute them.
    """
    pictures = drawn_pictures(spec)
    inputs = normalise(pictures, spec)
    features = features_of(inputs)
    return pack_tensors({"pictures": pictures, "inputs": inputs, "features": features, "logits": head.logits(features)})
