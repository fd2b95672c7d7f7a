from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome

Run = Callable[..., Outcome]


def test_more_clients_cost_their_indices_and_no_more(fbkit: Run, tmp_path: Path, full: bool) -> None:
    """A hundred clients against many: what they take beyond the index arrays differs by little."""
    if not full:
        pytest.skip("deals pictures to a million clients: in full only (make test-all)")
    out, largest = tmp_path / "scale", 1_000_000
    shown = fbkit("bench", "scale", "--out", out, "--rounds", 2, "--turns", 1, "--largest", largest)
    assert shown.code == 0, shown.err
    rows = {int(row["clients"]): row for row in csv.DictReader((out / "scale.csv").open())}
    assert max(rows) == largest
    for clients, row in rows.items():
        pictures = int(row["index_bytes"]) / 8 - 2 * (clients + 1)
        assert 9.5 * clients < pictures - 2 * clients < 10.5 * clients
    rest = {clients: int(row["peak_bytes"]) - int(row["index_bytes"]) for clients, row in rows.items()}
    assert rest[largest] - rest[100] < 0.15 * rest[100]
    assert {path.name for path in out.iterdir()} == {"scale.csv", "scale.png", "scale.svg", "runs"}


def test_a_folder_that_exists_is_left_alone(fbkit: Run, tmp_path: Path) -> None:
    shown = fbkit("bench", "scale", "--out", tmp_path)
    assert shown.code == 2
    assert "exists already" in shown.err
