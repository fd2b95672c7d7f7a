"""Everything that can be verified about a bundle on this machine, in one report."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from fbkit.device_runtime.body import normalise
from fbkit.device_runtime.bundle import Bundle, read_file
from fbkit.device_runtime.probe import probe_from_bytes, step_error
from fbkit.errors import UserError

STEP_TOLERANCE = 1e-5


@dataclass(frozen=True)
class CheckReport:
    """files: how many were verified; runtime: what the body runs on; errors: relative differences by name."""

    files: int
    runtime: str
    errors: dict[str, float]


def check_bundle(folder: str | os.PathLike[str]) -> CheckReport:
    """Open a bundle, which verifies files and body, and check its step graph against numpy.

    Raises:
        UserError: something is not as the manifest says or not within tolerance.
    """
    return check_opened(Bundle.open(folder))


def check_opened(bundle: Bundle) -> CheckReport:
    """As ``check_bundle``, for a bundle that was opened, and so verified, already."""
    manifest = bundle.manifest
    probe = probe_from_bytes(read_file(bundle.folder, manifest, manifest.probe), manifest, manifest.probe)
    features = bundle.body.features(normalise(probe.pictures, manifest.input))[: manifest.step_batch]
    error = step_error(bundle.head, features, len(bundle.classes), bundle.graph_step)
    if not error <= STEP_TOLERANCE:
        raise UserError(
            f"{bundle.folder}: {manifest.head_step} does not compute SGD's step here (error {error:.2g} is above "
            f"{STEP_TOLERANCE:.2g}); personalize with --step numpy"
        )
    return CheckReport(len(manifest.files), bundle.body.runtime, {**asdict(bundle.self_test), "step_error": error})
