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
from fbkit.files import sha256_file
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
                values, expected_values = (list(each["probabilities"].values()) for each in (own, known))
                assert values == pytest.approx(expected_values, abs=10 * TOLERANCE), place  # names are not checked
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


def test_a_broken_profile_is_refused_or_harmless(native: Native, pte_bundle: Path, tmp_path: Path, full: bool) -> None:
    """Bits flipped, pieces cut or overwritten; half of them with checksums that fit again."""
    whole = tmp_path / "whole"
    native.json("personalize", pte_bundle, DEMO / "pictures" / "train", "--profile", whole)
    tally = Counter[int]()
    for number in range(1000 if full else 80):
        rng = random.Random(f"profile {number}")  # noqa: S311  it hides nothing
        folder = Path(shutil.copytree(whole, tmp_path / "profile"))
        path = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size])
        data = bytearray(path.read_bytes())
        start = rng.randrange(min(len(data), rng.choice([300, len(data)])))
        if rng.random() < 0.2:
            del data[start:]
        elif rng.random() < 0.3:
            data[start : start + 8] = rng.choice([bytes(8), b"\xff" * 8, b"99999999", rng.randbytes(8)])
        else:
            data[start] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        if number % 2 and path.suffix == ".safetensors":
            state = json.loads((folder / "profile.json").read_text())
            for entry in (*state["heads"], *state["memory"]):
                if entry["file"] == path.name:
                    entry["sha256"] = sha256_file(path)
            (folder / "profile.json").write_text(json.dumps(state))
        command = rng.choice(
            [("predict", pte_bundle, PICTURES[0]), ("personalize", pte_bundle, PICTURES[0].parents[1])]
        )
        tally[native.run(*command, "--profile", folder, "--json").code] += 1
        shutil.rmtree(folder)
    assert tally[0]
    assert tally[2] > 10
