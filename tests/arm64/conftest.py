"""The emulated Arm device."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = HERE / "device.sh"
FOLDER = HERE.parents[1] / ".cache" / "arm64"
UNFETCHABLE = 75  # device.sh's exit code where the network or the registries are to blame


@dataclass(frozen=True)
class Device:
    """An emulated device; see device.sh."""

    folder: Path

    def run(self, *command: str | Path) -> str:
        """Run one program of the device and return its stdout; the test fails where the program does."""
        ended = subprocess.run(
            [SCRIPT, "run", self.folder, *command], capture_output=True, text=True, check=False, timeout=300
        )
        assert ended.returncode == 0, f"exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert not ended.stderr, ended.stderr
        return ended.stdout


@pytest.fixture(scope="session")
def device() -> Device:
    """Made once and kept in .cache; skipped only where it cannot be made, so that a broken one is noticed."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the Arm device is emulated on Linux on x86-64 only")
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("making the emulated Arm device needs root and apt-get")
    ended = subprocess.run(
        [SCRIPT, "setup", FOLDER],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == UNFETCHABLE:
        pytest.skip(ended.stderr.strip().splitlines()[-1])
    assert ended.returncode == 0, f"device.sh setup: exit code {ended.returncode}\n{ended.stderr}"
    return Device(FOLDER)
