"""The device runtime on 64-bit Arm, without torch, gives what it gives on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fbkit.device_runtime.demo import FOLDER as DEMO
from tests.arm64.conftest import Device

DRIVER = Path(__file__).parent / "driver.py"
PICTURES = DEMO / "pictures"
ROOT = Path(__file__).parents[2]


def test_onnx_bundle_on_arm(device: Device, tmp_path: Path) -> None:
    """The usual way to a Raspberry Pi: the base install and an ONNX bundle."""
    there, here = run_on_both(device, DEMO / "bundle", tmp_path)
    assert there["check"]["runtime"].startswith("onnxruntime ")
    assert_same_outcome(there, here, tmp_path)


def test_pte_bundle_on_arm(device: Device, pte_bundle: Path, tmp_path: Path, full: bool) -> None:
    """A .pte bundle on the runtime that needs no torch, against the official one on this machine."""
    if not full:
        pytest.skip("ONNX here, .pte in full (make test-all)")
    there, here = run_on_both(device, pte_bundle, tmp_path)
    assert there["check"]["runtime"].startswith("executorch-numpy-runtime ")
    assert_same_outcome(there, here, tmp_path)


def test_the_base_install_is_small(device: Device) -> None:
    """All that `pip install fbkit` brings to an Arm device, unpacked, and fbkit itself."""
    sizes = {package.name: size_of(package) for package in (device.folder / "packages").iterdir()}
    extra = ("executorch_numpy_runtime", "pydantic", "annotated_types", "typing_inspection")
    base = {name: size for name, size in sizes.items() if not name.startswith(extra)}
    assert {"numpy", "onnxruntime", "PIL", "safetensors", "typer", "rich"} <= base.keys()
    assert not {"torch", "pydantic"} & base.keys()
    base["fbkit"] = sum(size_of(ROOT / part) for part in ("src", "device_runtime", "train", "export", "benchmarks"))
    assert sum(base.values()) <= 200e6


def size_of(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return sum(file.stat().st_size for file in files)


def run_on_both(device: Device, bundle: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The driver's outcomes on the device and on this machine; profiles lie in ``folder``, in "there" and "here"."""
    there = device.run("python3", DRIVER, bundle, PICTURES, folder / "there")
    here = subprocess.run(
        [sys.executable, DRIVER, bundle, PICTURES, folder / "here"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(there), json.loads(here)


def assert_same_outcome(there: dict[str, Any], here: dict[str, Any], folder: Path) -> None:
    assert there["machine"] == "aarch64"
    assert not there["torch"]
    assert there["check"]["ok"]
    for way in ("exact", "numpy", "graph"):
        assert there["personalize"][way]["head"] == here["personalize"][way]["head"]
        name = there["personalize"][way]["head"]
        heads = [load_file(folder / side / way / "heads" / name) for side in ("there", "here")]
        for name in ("weight", "bias"):
            np.testing.assert_allclose(heads[0][name], heads[1][name], rtol=0, atol=1e-4)
        assert there["personalize"][way]["loss_after"] < there["personalize"][way]["loss_before"]
        assert there["personalize"][way]["verdict"]["verified"]

    assert len(there["curve"]) > 1
    assert [accuracy for accuracy, _ in there["curve"]] == [accuracy for accuracy, _ in here["curve"]]
    np.testing.assert_allclose(there["curve"], here["curve"], rtol=0, atol=1e-4)

    labels = [[one["label"] for one in outcome["predict"]["predictions"]] for outcome in (there, here)]
    assert labels[0] == labels[1]
    assert len(labels[0]) == len(list((PICTURES / "test").glob("*/*")))
    for key in ("pictures", "shipped_accuracy", "personal_accuracy"):
        assert there["evaluate"][key] == here["evaluate"][key]
    for key in ("shipped_loss", "personal_loss"):
        assert there["evaluate"][key] == pytest.approx(here["evaluate"][key], abs=1e-4)
