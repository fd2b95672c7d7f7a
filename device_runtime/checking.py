"""Everything that can be verified about a bundle on this machine, in one report."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from fbkit.device_runtime.body import normalise, open_network
from fbkit.device_runtime.bundle import Bundle, naming
from fbkit.device_runtime.probe import batches, largest, relative_error, step_error
from fbkit.device_runtime.pte_runtime import has_official_runtime, open_program
from fbkit.device_runtime.tensors import Labels, first_float
from fbkit.errors import UserError

STEP_TOLERANCE = 1e-5


@dataclass(frozen=True)
class CheckReport:
    """files: how many were verified; runtime: what the body runs on; errors: relative differences by name."""

    files: int
    runtime: str
    errors: dict[str, float]


def check_bundle(folder: str | os.PathLike[str], signed_by: str | os.PathLike[str] | None = None) -> CheckReport:
    """Open a bundle, which verifies its files, and run everything in it in this process.

    Raises:
        UserError: something is not as the manifest says or not within tolerance, or as ``Bundle.open``.
    """
    return check_opened(Bundle.open(folder, signed_by=signed_by))


def check_opened(bundle: Bundle, announce: Callable[[str], None] = lambda _file: None) -> CheckReport:
    """As ``check_bundle``, for a bundle that was opened already; ``announce`` hears which file is run next."""
    manifest = bundle.manifest
    with naming(bundle.folder):
        errors = asdict(bundle.self_test)
        announce(manifest.head_step)
        errors["step_error"] = _check_step(bundle)
        if manifest.model:
            announce(manifest.model)
            errors["model_error"] = _check_model(bundle, manifest.model)
        # The other runtime knows nothing of training.
        if manifest.training_module and manifest.target == "executorch" and has_official_runtime():
            announce(manifest.training_module)
            errors["training_module_error"] = _check_training_module(bundle, manifest.training_module)
    return CheckReport(len(manifest.files), bundle.body.runtime, errors)


def _check_step(bundle: Bundle) -> float:
    """The step graph against numpy."""
    manifest = bundle.manifest
    features = bundle.probe.features[: manifest.step_batch]
    error = step_error(bundle.head, features, bundle.graph_step, plain=manifest.version == 1)
    return _within([error], STEP_TOLERANCE, f"{manifest.head_step}: does not compute SGD's step here")


def _check_model(bundle: Bundle, name: str) -> float:
    """Body and head in one against the probe's logits."""
    manifest = bundle.manifest
    model = open_network(manifest, name, len(bundle.classes), bundle.read(name), threads=None)
    inputs, expected = normalise(bundle.probe.pictures, manifest.input), bundle.probe.logits
    errors = [
        relative_error(model.features(inputs[places]), expected[places]) for places in batches(manifest, len(inputs))
    ]
    return _within(errors, manifest.feature_tolerance, f"{name}: does not give the probe's logits here")


def _check_training_module(bundle: Bundle, name: str) -> float:
    """Loss and logits of the joint graph against the head's."""
    batch, head = bundle.manifest.step_batch, bundle.head
    features = bundle.probe.features[np.arange(batch) % len(bundle.probe.features)]
    labels: Labels = np.arange(batch, dtype=np.int64) % len(head.bias)
    outputs = open_program(bundle.read(name), name).run("forward", [features, labels])
    expected = (np.array(head.loss(features, labels), np.float32), head.logits(features))
    errors = [
        relative_error(first_float(outputs[place:], found.shape, f"{name}: output {place}"), found)
        for place, found in enumerate(expected)
    ]
    return _within(errors, STEP_TOLERANCE, f"{name}: does not compute the head's loss and logits here")


def _within(errors: list[float], limit: float, what: str) -> float:
    """The largest error."""
    error = largest(errors)
    if not error <= limit:  # not a number counts as too large
        raise UserError(f"{what} (error {error:.2g} is above {limit:.2g}); do not use this bundle here")
    return error
