"""One client's curves on the native runner, by its own ``bench``: with what the bundle recommends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from fbkit.benchmarks.clients import ClientFolder
from fbkit.benchmarks.convergence.measure import copy_pictures, some_of_each_class
from fbkit.benchmarks.convergence.result import ALL, Curve
from fbkit.benchmarks.device.result import DeviceResult, device_result_from_json
from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.class_folder import read_class_folder
from fbkit.errors import UserError

SOLVERS = ("sgd", "exact")  # that it has


def measure_natively(
    program: Path, bundle: Bundle, client: ClientFolder, wanted: Iterable[tuple[str, int]]
) -> list[Curve]:
    """As ``measure_client``, for the solvers that the native runner has.

    Args:
        program: ``fbkit-device``.
        bundle: of target executorch.

    Raises:
        UserError: the program fails, or says something that is no result.
    """
    pictures = read_class_folder(client.train, bundle.classes)
    asked = set(wanted)
    curves = []
    for per_class in sorted({count for _, count in asked}):
        with TemporaryDirectory() as scratch:
            few = pictures if per_class == ALL else some_of_each_class(pictures, client.name, per_class)
            copy_pictures(few, Path(scratch) / "train")
            (Path(scratch) / "test").symlink_to(client.test.resolve(), target_is_directory=True)
            found = _run(program, bundle.folder, Path(scratch))
        curves += [
            Curve(
                subject=0,
                solver=learned.solver,
                per_class=per_class,
                client=client.name,
                pictures=found.subject.pictures,
                batch=bundle.manifest.personalization.batch_size if learned.solver == "sgd" else None,
                features_seconds=learned.turns[0]["decode"] + learned.turns[0]["body"],
                seconds=tuple(point.seconds for point in learned.points),
                accuracy=tuple(point.accuracy for point in learned.points),
                loss=tuple(point.loss for point in learned.points),
            )
            for learned in found.learning
            if (learned.solver, per_class) in asked
        ]
    return curves


def _run(program: Path, bundle: Path, pictures: Path) -> DeviceResult:
    command = [str(program), "bench", str(bundle), str(pictures), "--turns", "1", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise UserError(f"{program}: ended with {ended.returncode}: {ended.stderr.strip()}")
    try:
        said = json.loads(ended.stdout)
    except ValueError as error:
        raise UserError(f"{program}: what it printed is no JSON") from error
    return device_result_from_json(said, str(program))
