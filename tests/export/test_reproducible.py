"""The same run gives the same bytes, whoever exports it and from wherever; and nothing in them tells who it was."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fbkit.device_runtime.manifest import read_manifest
from fbkit.train.run_folder import Run

ROOT = Path(__file__).parent.parent.parent
EVERYTHING = {
    "onnx": ("--precision", "int8", "--with-model"),
    "executorch": ("--precision", "int8", "--with-model", "--with-training-module"),
}


def checkout(folder: Path) -> Path:
    """The project's code, copied."""
    for part in ("src", "train", "export", "device_runtime", "benchmarks"):
        shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def export(code: Path, user: str, run: Path, out: Path, *arguments: str) -> dict[str, bytes]:
    """What ``user`` exports with ``code`` at midnight of 1970; every byte is searched for where it was and who."""
    home = code.parent / f"home-of-{user}"
    home.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
        "PYTHONPATH": str(code / "src"),
        "HOME": str(home),
        "USER": user,
        "LOGNAME": user,
        "SOURCE_DATE_EPOCH": "0",
        "OMP_NUM_THREADS": "1",
    }

    def python(*command: str | Path) -> str:
        ended = subprocess.run(
            [sys.executable, *command], cwd=code, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert python("-c", "import fbkit.export; print(fbkit.export.__file__)").startswith(str(code))
    python("-m", "fbkit", "export", run, "--out", out, *arguments)
    bundle = {path.name: path.read_bytes() for path in out.iterdir()}
    telling = ["site-packages", ".py", "stack_trace", str(ROOT), str(code), str(run), str(home), user]
    if len(host := socket.gethostname()) > 5:
        telling.append(host)
    for name, data in bundle.items():
        for trace in telling:
            assert trace.encode() not in data, f"{name} holds {trace!r}"
    return bundle


def test_another_checkout_exports_the_same_bytes(
    small_run: Run, bundle_folder: Path, tmp_path: Path, full: bool
) -> None:
    first = read_manifest(bundle_folder)
    if not full and first.target != "onnx":
        pytest.skip("to ONNX here, to ExecuTorch in full (make test-all)")
    code = checkout(tmp_path / "elsewhere" / "fbkit")
    bundle = export(code, "somebody-else", small_run.folder, tmp_path / "bundle", "--target", first.target)
    expected = {path.name: path.read_bytes() for path in bundle_folder.iterdir()}
    text = expected["manifest.json"].decode()
    expected["manifest.json"] = text.replace(first.provenance["exported"], "1970-01-01T00:00:00Z").encode()
    assert bundle.keys() == expected.keys() == {*first.files, "manifest.json"}
    for name, data in expected.items():
        assert bundle[name] == data, name


@pytest.mark.parametrize("target", EVERYTHING)
def test_two_checkouts_export_the_same_bytes_of_everything(
    small_run: Run, target: str, tmp_path: Path, full: bool
) -> None:
    """In 8 bits, the whole model and the training module too; the run was moved in between."""
    if not full:
        pytest.skip("with --all: the test above exports fp32")
    run = tmp_path / "moved" / "run"
    shutil.copytree(small_run.folder, run)
    options = ("--target", target, *EVERYTHING[target], "--accept-loss")
    bundles = [
        export(checkout(tmp_path / user / "fbkit"), user, folder, tmp_path / user / "bundle", *options)
        for user, folder in (("first-user", small_run.folder), ("second-user", run))
    ]
    assert bundles[0].keys() == bundles[1].keys()
    for name, data in bundles[0].items():
        assert bundles[1][name] == data, name
