"""The self-test: does this machine compute from the probe's pictures what the exporting machine computed?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fbkit.device_runtime.body import Body, normalise
from fbkit.device_runtime.head import Head
from fbkit.device_runtime.manifest import Manifest
from fbkit.device_runtime.solvers.sgd import Step, StepSettings, numpy_step, start
from fbkit.device_runtime.tensors import Bytes, Float, Labels, unpack_tensors
from fbkit.errors import UserError

# One picture alone and the same in a batch go through other kernels, which add in another order. In an int8 body that
# can turn a rounding to 8 bits, one of 255 steps, and that some more behind it; where sums are of whole numbers, as in
# most layers, order does not matter.
BATCH_TOLERANCE = {"fp32": 1e-5, "int8": 0.02}
MAX_PROBE = 256


@dataclass(frozen=True)
class Probe:
    """What torch computed, for N pictures.

    pictures: uint8 [N, H, W, C]; inputs: float32 [N, C, H, W]; features: float32 [N, F]; logits: float32 [N, classes].
    """

    pictures: Bytes
    inputs: Float
    features: Float
    logits: Float


@dataclass(frozen=True)
class SelfTest:
    """Largest differences found, each relative to the largest expected value of its kind."""

    input_error: float
    feature_error: float
    logit_error: float
    batch_error: float


def probe_from_bytes(data: bytes, manifest: Manifest, origin: str) -> Probe:
    """Read a probe and check its shapes.

    Raises:
        UserError: not a probe for this manifest.
    """
    spec = manifest.input
    tensors = unpack_tensors(
        data,
        {
            "pictures": ("uint8", (-1, spec.height, spec.width, spec.channels)),
            "inputs": ("float32", (-1, spec.channels, spec.height, spec.width)),
            "features": ("float32", (-1, manifest.features)),
            "logits": ("float32", (-1, len(manifest.classes))),
        },
        origin,
    )
    counts = {len(tensor) for tensor in tensors.values()}
    if len(counts) != 1 or not 2 <= counts.pop() <= MAX_PROBE:
        raise UserError(f"{origin}: must hold 2 to {MAX_PROBE} pictures, and as many inputs, features and logits")
    return Probe(**tensors)


def run_self_test(manifest: Manifest, body: Body, head: Head, probe: Probe) -> SelfTest:
    """Compare normalisation, features (alone and in every batch the body was made for) and logits with the probe's.

    Raises:
        UserError: a difference is larger than the manifest's tolerance, or between alone and batch than
            ``BATCH_TOLERANCE``.
    """
    inputs = normalise(probe.pictures, manifest.input)
    count = len(inputs)
    alone = np.concatenate([body.features(inputs[place : place + 1]) for place in range(count)])
    batched = [(body.features(inputs[places]), places) for places in batches(manifest, count)]
    result = SelfTest(
        input_error=relative_error(inputs, probe.inputs),
        feature_error=largest(relative_error(features, probe.features[places]) for features, places in batched),
        logit_error=largest(
            relative_error(head.logits(features), probe.logits[places]) for features, places in batched
        ),
        batch_error=largest(relative_error(alone[places], features) for features, places in batched),
    )
    limits = {
        "input_error": (manifest.feature_tolerance, manifest.probe),
        "feature_error": (manifest.feature_tolerance, manifest.body),
        "logit_error": (manifest.feature_tolerance, manifest.head),
        "batch_error": (BATCH_TOLERANCE[manifest.precision], manifest.body),
    }
    for name, (limit, file) in limits.items():
        found = getattr(result, name)
        if not found <= limit:  # not a number counts as too large
            raise UserError(
                f"{file}: the self-test fails on this machine: {name.replace('_', ' ')} {found:.2g} is above "
                f"{limit:.2g}; do not use this bundle here, and check it on the machine that exported it"
            )
    return result


def batches(manifest: Manifest, count: int) -> list[npt.NDArray[np.intp]]:
    """Places in a probe of ``count`` pictures: a batch of each size that the body was made for."""
    # Repeated, so that the method for this size is full.
    return [np.arange(size) % count for size in manifest.body_batches or (count,)]


def step_error(head: Head, features: Float, step: Step, plain: bool) -> float:
    """Largest difference between two steps of ``step`` and of numpy, relative to the largest weight.

    The second step has a picture less and, unless ``plain``, leaves the last class out, decays and has a penalty.
    """
    classes = len(head.bias)
    labels: Labels = np.arange(len(features), dtype=np.int64) % (classes - 1)
    anchor = Head(np.ascontiguousarray(head.weight[::-1]), np.ascontiguousarray(head.bias[::-1]))
    first = second = StepSettings(0.01, 0.9, anchor)
    if not plain:
        second = replace(first, weight_decay=1.0, penalty=2.0, class_mask=np.arange(classes) < classes - 1)
    here, there = start(head), start(head)
    for rows, settings in ((len(features), first), (max(len(features) - 1, 1), second)):
        _, here = step(here, features[:rows], labels[:rows], settings)
        _, there = numpy_step(there, features[:rows], labels[:rows], settings)
    return largest(
        [relative_error(here.head.weight, there.head.weight), relative_error(here.head.bias, there.head.bias)]
    )


def largest(errors: Iterable[float]) -> float:
    """The largest, or not a number where one is not: Python's max would overlook it."""
    return float(np.max(list(errors)))


def relative_error(found: Float, expected: Float) -> float:
    """Largest absolute difference over the largest absolute expected value."""
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(found.astype(np.float64) - expected).max()) / scale
