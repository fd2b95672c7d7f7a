"""The same commands by the native runner and by Python, in turns, each in a fresh process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fbkit.device_runtime.bundle import Bundle
from fbkit.device_runtime.profile import Profile, find_profile
from fbkit.device_runtime.tensors import Float
from fbkit.errors import UserError

PYTHON, NATIVE = "Python", "native"


@dataclass(frozen=True)
class Took:
    """One process: seconds from its start to its end, and the most memory that it had, in bytes."""

    seconds: float
    memory: int


@dataclass
class Times:
    """Of one runtime, turn by turn; ``stages`` are personalizing's own seconds, from its result."""

    predict: list[Took] = field(default_factory=list)
    personalize: list[Took] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)

    def of(self, command: str, what: Callable[[Took], float]) -> float:
        return median(what(took) for took in getattr(self, command))

    def inner(self) -> float:
        """Seconds of personalizing without the process around it."""
        return median(sum(stages.values()) for stages in self.stages)


@dataclass(frozen=True)
class Agreement:
    """Between the two runtimes' profiles and predictions.

    Attributes:
        features, exact, sgd: largest difference, relative to the largest value: of features, and of the heads that the
            two solvers found.
        probability: largest difference.
        same: how many of ``predictions`` are of the same class.
    """

    features: float
    exact: float
    sgd: float
    probability: float
    same: int
    predictions: int


@dataclass(frozen=True)
class Found:
    """Of one bundle."""

    bundle: str
    pixels: int
    precision: str
    pictures: int
    times: dict[str, Times]
    agreement: Agreement


def compare(bundle: Path, pictures: Path, unseen: Path, program: Path, turns: int, scratch: Path) -> Found:
    """Personalize on ``pictures``, predict ``unseen``.

    Raises:
        UserError: a process fails, or the bundle cannot be opened.
    """
    opened = Bundle.open(bundle)
    if opened.manifest.target != "executorch":
        raise UserError(f"{bundle}: the native runner runs .pte bundles; export with --target executorch")
    commands = {PYTHON: [sys.executable, "-m", "fbkit"], NATIVE: [str(program)]}
    paths = sorted(unseen.glob("*/*"))
    times = {name: Times() for name in commands}
    profiles = {name: scratch / f"profile-{name}" for name in commands}
    for turn in range(turns + 1):  # the first one, in which files are read and bundles are tried, does not count
        for name, command in commands.items():
            shutil.rmtree(profiles[name], ignore_errors=True)
            options = ["--profile", str(profiles[name]), "--json"]
            personalized, result = run([*command, "personalize", str(bundle), str(pictures), *options])
            predicted, _ = run([*command, "predict", str(bundle), str(paths[0]), *options])
            if turn:
                times[name].personalize.append(personalized)
                times[name].predict.append(predicted)
                times[name].stages.append(result["seconds"])
    predictions = [
        run([*command, "predict", str(bundle), *map(str, paths), "--profile", str(profiles[name]), "--json"])[1]
        for name, command in commands.items()
    ]
    by_sgd = {name: scratch / f"sgd-{name}" for name in commands}
    for name, command in commands.items():
        shutil.rmtree(by_sgd[name], ignore_errors=True)
        options = ["--solver", "sgd", "--step", "graph", "--profile", str(by_sgd[name]), "--json"]
        run([*command, "personalize", str(bundle), str(pictures), *options])
    manifest = opened.manifest
    return Found(
        bundle.name,
        manifest.input.height,
        manifest.precision,
        len(list(pictures.glob("*/*"))),
        times,
        _agreement(opened, [profiles, by_sgd], [each["predictions"] for each in predictions]),
    )


# A process's peak begins with that of the one it was forked from: so it is started by a small one.
_LAUNCHER = """
import json, os, sys, time
result, *command = sys.argv[1:]
started = time.perf_counter()
child = os.posix_spawnp(command[0], command, os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.perf_counter() - started
unit = 1 if sys.platform == "darwin" else 1024
with open(result, "w") as file:
    json.dump([os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss * unit], file)
"""


def run(command: Sequence[str]) -> tuple[Took, Any]:
    """Run a command and read the JSON object on its stdout.

    Raises:
        UserError: it fails.
    """
    with TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        launcher = [sys.executable, "-ISc", _LAUNCHER, str(result)]
        ended = subprocess.run([*launcher, *command], capture_output=True, text=True, check=False)
        code, seconds, memory = json.loads(result.read_text()) if result.exists() else (ended.returncode, 0.0, 0)
    if code or ended.returncode:
        raise UserError(f"{command[0]} ended with {code}: {ended.stderr.strip()}")
    return Took(seconds, memory), json.loads(ended.stdout)


def _agreement(bundle: Bundle, folders: list[dict[str, Path]], predictions: list[list[dict[str, Any]]]) -> Agreement:
    exact, sgd = ([_opened(each[name], bundle) for name in (PYTHON, NATIVE)] for each in folders)
    probabilities = [
        np.array([[one["probabilities"][name] for name in exact[0].classes] for one in each]) for each in predictions
    ]
    return Agreement(
        features=_difference(*(profile.memory().features for profile in exact)),
        exact=_heads_differ(exact, bundle),
        sgd=_heads_differ(sgd, bundle),
        probability=float(np.abs(probabilities[0] - probabilities[1]).max()),
        same=sum(one["label"] == other["label"] for one, other in zip(*predictions, strict=True)),
        predictions=len(predictions[0]),
    )


def _heads_differ(profiles: list[Profile], bundle: Bundle) -> float:
    one, other = (profile.head() for profile in profiles)
    if one is None or other is None:
        raise UserError(
            f"{bundle.folder}: no personal head does better on these pictures; give others to compare heads"
        )
    return max(_difference(one.weight, other.weight), _difference(one.bias, other.bias))


def _opened(folder: Path, bundle: Bundle) -> Profile:
    profile = find_profile(folder, bundle.manifest)
    if profile is None:
        raise UserError(f"{folder}: the profile is gone; do not change the folder meanwhile")
    return profile


def _difference(expected: Float, found: Float) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
