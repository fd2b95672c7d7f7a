"""``fbkit bench solvers``: what it measures, and what it concludes from it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fbkit.benchmarks.solvers.measure import SIZES, WAYS, Measured
from fbkit.benchmarks.solvers.report import difference
from tests.conftest import Outcome

TINY = ("model.width=4", "training.rounds=1", "clients.count=30", "clients.held_out=3")


def test_the_command_tries_every_way_on_every_held_out_client_and_goes_on(
    fbkit: Callable[..., Outcome], tmp_path: Path, full: bool
) -> None:
    if not full:
        pytest.skip("trains, exports and fits every way: in full only (make test-all)")
    out = tmp_path / "solvers"
    command = ["bench", "solvers", "--out", out, "--algorithm", "fedbabu", "--shards", 2, "--seeds", 1]
    for value in TINY:
        command += ["--set", value]
    shown = fbkit(*command)
    assert shown.code == 0, shown.err
    rows = list(csv.DictReader((out / "solvers.csv").open()))
    assert len(rows) == 3 * len(SIZES) * len(WAYS)
    assert {(int(row["size"]), row["way"]) for row in rows} == {(size, way) for size in SIZES for way in WAYS}
    assert (out / "solvers.md").read_text() in shown.out
    assert (out / "solvers.png").stat().st_size > 10_000
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    assert fbkit(*command).code == 0
    assert before == {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*") if path.is_file()}
    again = list(csv.DictReader((out / "solvers.csv").open()))
    assert [row["accuracy"] for row in again] == [row["accuracy"] for row in rows]


def clients(gains: list[float]) -> list[Measured]:
    """Clients on which exact is better than SGD by so many points, at two sizes."""
    return [
        Measured("fedbabu", 2, 0, client, size, way, 80.0 + client + (gain if way == "exact" else 0.0), 0.001)
        for client, gain in enumerate(gains)
        for size in (1, 5)
        for way in ("sgd", "exact")
    ]


def test_the_difference_is_the_mean_over_clients_with_its_spread() -> None:
    same = difference(clients([1.5] * 20), "exact")
    assert asdict(same) == pytest.approx({"mean": 1.5, "low": 1.5, "high": 1.5})
    gains = np.random.default_rng(0).normal(0.5, 2.0, 400)
    found = difference(clients(gains.tolist()), "exact")
    assert found.mean == pytest.approx(gains.mean())
    half = 1.96 * gains.std() / np.sqrt(len(gains))  # what the central limit theorem says
    assert found.low == pytest.approx(gains.mean() - half, abs=0.03)
    assert found.high == pytest.approx(gains.mean() + half, abs=0.03)
