"""The device's part without torch, without traces in the home folder, and from a base install."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import FBKIT

ROOT = Path(__file__).parent.parent.parent

# Stands for a machine on which none of these is installed.
BLOCKED = """
import sys
for name in ("torch", "torchvision", "executorch", "tensorboard", "onnx", "matplotlib", "jinja2", "tomli_w", "scipy"):
    sys.modules[name] = None
from fbkit.cli import main
main()
"""


def test_the_device_demo_runs_without_the_cluster_packages_and_leaves_no_telemetry(tmp_path: Path) -> None:
    quiet = ("ORT_DISABLE_TELEMETRY", "CI")  # either would keep onnxruntime silent without fbkit
    environment = {key: value for key, value in os.environ.items() if key not in quiet}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    command = [sys.executable, "-c", BLOCKED, "demo", "--device", "--out", str(tmp_path / "profile")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.strip().startswith("epoch")]
    first, last = (float(line.rstrip("%").split()[-1]) for line in (lines[0], lines[-1]))
    assert len(lines) == 11
    assert last > first
    assert (tmp_path / "profile" / "profile.json").exists()
    left = sorted(str(path.relative_to(tmp_path).parent) for path in tmp_path.rglob("*") if path.is_file())
    verdicts = [folder for folder in left if not folder.startswith("profile")]
    assert verdicts == [".cache/fbkit/verdicts"], "something else was left in the home folder"


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "--out", "x"), "train"),
        (("export", "x", "--target", "onnx", "--out", "y"), "export"),
        (("bench", "convergence", "x", "--clients", "y", "--out", "z"), "bench"),
        (("demo", "--out", "x"), "train"),
    ],
)
def test_a_command_whose_extra_is_missing_says_which(arguments: tuple[str, ...], extra: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", BLOCKED, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert f"pip install 'fbkit[{extra}]'" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_base_install_from_the_wheel_runs_the_device_demo(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("makes a virtual environment and installs into it: in full only (make test-all)")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = str(ROOT / "constraints.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-c", constraints, wheel], check=True)
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" not in listed
    result = subprocess.run([python.with_name("fbkit"), "demo", "--device"], capture_output=True, text=True, check=True)
    assert "predictions with the personal head" in result.stdout


def test_help_of_every_command_works() -> None:
    commands = ["train", "export", "inspect", "check", "personalize", "predict", "evaluate", "demo", "bench"]
    for command in [*commands, "keygen", "sign", "pack", "unpack"]:
        result = subprocess.run([FBKIT, command, "--help"], capture_output=True, text=True, check=True)
        assert "Usage" in result.stdout
