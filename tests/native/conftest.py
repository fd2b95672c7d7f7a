"""The native runner, built by the project's own script; with sanitizers, and in full also as users get it."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome
from tests.export.own_nets import CLASSES

BUILD = Path(__file__).parents[2] / "device_runtime" / "native" / "build.sh"
UNFETCHABLE = 75  # build.sh's exit code where the network or the registries are to blame
REPORTED = 99  # the exit code where a sanitizer found something


def build(factory: pytest.TempPathFactory, arch: str, *options: str) -> Path:
    """The program's folder, built once for all of pytest's workers; skipped only where what it needs cannot be had."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "-".join(("native", arch, *(option.rpartition("-D")[2] for option in options)))
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder
        ended = subprocess.run(
            [BUILD, arch, folder, *options],
            env={**os.environ, "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode == UNFETCHABLE:
        pytest.skip(ended.stderr.strip().splitlines()[-1])
    assert ended.returncode == 0, f"build.sh: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
    return folder


@dataclass(frozen=True)
class Native:
    """The program, with ``reports``: where sanitizers write what they find."""

    folder: Path
    reports: Path

    def run(self, *arguments: object, **options: Any) -> Outcome:
        """Run a command; it ends as it should, well or with one line, and sanitizers found nothing."""
        ended = self.start(*arguments, leaks=True, **options)
        out, err = ended.communicate(timeout=120)
        self.check()
        assert ended.returncode in (0, 2, -signal.SIGKILL), f"{ended.returncode}: {err}"
        if ended.returncode == 2:
            assert err.startswith("fbkit-device: ")
            assert err.count("\n") == 1
        return Outcome(ended.returncode, out, err)

    def start(self, *arguments: object, leaks: bool = False, **options: Any) -> subprocess.Popen[str]:
        """Start a command, for one to kill; without the search for leaks at its end, which a kill confuses."""
        sanitizers = f"exitcode={REPORTED}:log_path={self.reports}/report:detect_leaks={leaks:d}"
        environment = {**os.environ, "ASAN_OPTIONS": sanitizers, "UBSAN_OPTIONS": f"{sanitizers}:print_stacktrace=1"}
        command = [str(self.folder / "fbkit-device"), *map(str, arguments)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
        )

    def json(self, *arguments: object) -> Any:
        outcome = self.run(*arguments, "--json")
        assert outcome.code == 0, outcome.err
        return json.loads(outcome.out)

    def check(self) -> None:
        """Whether a sanitizer found something; in the trial's child that may be ExecuTorch's doing."""
        found = list(self.reports.iterdir())
        assert not found, found[0].read_text()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "native" in metafunc.fixturenames:
        kinds = ["sanitized", "release"] if metafunc.config.getoption("--all") else ["sanitized"]
        metafunc.parametrize("native", kinds, indirect=True, scope="session")


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory, platform.machine(), "-DFBKIT_SANITIZE=ON")


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory, platform.machine())


@pytest.fixture(scope="session")
def native(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Native:
    if (platform.system(), platform.machine()) not in (("Linux", "x86_64"), ("Linux", "aarch64")):
        pytest.skip("the native runner is built on Linux on x86-64 or 64-bit Arm")
    return Native(request.getfixturevalue(request.param), tmp_path_factory.mktemp("reports"))


@pytest.fixture
def tinted(tmp_path: Path) -> Callable[[str, int], Path]:
    """A folder class/picture of pictures in the classes' own colours."""

    def draw(name: str, count: int) -> Path:
        rng = np.random.default_rng(len(name) + count)
        for place, label in enumerate(CLASSES):
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (24, 20, 3)).astype(np.uint8)
                pixels[..., place] = np.maximum(pixels[..., place], 100)
                Image.fromarray(pixels).save(tmp_path / name / label / f"{number}.png")
        return tmp_path / name

    return draw
