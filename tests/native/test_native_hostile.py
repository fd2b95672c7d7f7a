"""The corpus of hostile bundles: each is refused in a line and in time, or computes what it did; no crash comes out."""

from __future__ import annotations

import json
import random
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fbkit.device_runtime.demo import FOLDER as DEMO
from tests.device_runtime.mutations import kinds
from tests.native.agreement import TOLERANCE
from tests.native.conftest import Native

COUNT = 1100  # a sample has each kind of mutation twice
SECONDS = 10.0
PICTURES = sorted((DEMO / "pictures" / "test").glob("*/*"))[::7]


def test_every_mutation_is_refused_by_name_and_in_time_or_does_no_harm(
    native: Native, pte_bundle: Path, tmp_path: Path, full: bool
) -> None:
    expected = native.json("predict", pte_bundle, *PICTURES)["predictions"]
    names = [*json.loads((pte_bundle / "manifest.json").read_text())["files"], "manifest.json"]
    drawn, tally = kinds("executorch"), Counter[str]()
    for number in range(COUNT if full else 2 * len(drawn)):
        kind = drawn[number % len(drawn)]
        folder = Path(shutil.copytree(pte_bundle, tmp_path / "work" / "bundle"))
        kind.apply(folder, random.Random(f"native {number}"))  # noqa: S311  it hides nothing
        place, started = f"{number}, {kind}", time.monotonic()
        process = native.start("predict", folder, *PICTURES, "--json")
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - started < SECONDS, place
        if process.returncode == 0:
            tally["opened"] += 1
            for own, known in zip(json.loads(out)["predictions"], expected, strict=True):
                assert own["probabilities"] == pytest.approx(known["probabilities"], abs=10 * TOLERANCE), place
        else:
            assert process.returncode == 2, f"{place}: {process.returncode} {err}"
            assert err.startswith("fbkit-device: "), place
            assert err.count("\n") == 1, place
            assert any(name in err for name in names), f"{place}: {err}"
            tally["crashed in its trial" if "crashes" in err else "refused"] += 1
        for report in native.reports.iterdir():  # of the trial's child, in ExecuTorch; the caller's has its number
            assert not report.name.endswith(f".{process.pid}"), report.read_text()
            report.unlink()
        shutil.rmtree(folder.parent)
    sys.stdout.write(f"{dict(sorted(tally.items()))}\n")
    assert 0 < tally["opened"] < number // 3
