from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fbkit.benchmarks.train_speed.compare import BARE, FBKIT, GOALS, Measured, half, overhead_of_a_round, ratio
from fbkit.benchmarks.train_speed.contender import Contender, run_contender
from fbkit.benchmarks.train_speed.report import goals
from fbkit.benchmarks.train_speed.workload import prepare
from fbkit.errors import UserError
from tests.conftest import Outcome

Run = Callable[..., Outcome]


def measured(*speeds: float, threads: int = 1) -> Measured:
    return Measured(threads, BARE[threads], speeds, 1.0, 2**20, None, {}, ())


def test_ratios_are_taken_turn_by_turn() -> None:
    found = {BARE[1]: measured(100, 300, 200), FBKIT[1]: measured(90, 300, 100)}
    assert ratio(found, FBKIT[1], BARE[1]) == (0.9, 0.5, 1.0)
    assert overhead_of_a_round(found, FBKIT[1], 1000) == pytest.approx(1000 / 100 - 1000 / 200)  # of the medians
    assert goals(found) == [f"{FBKIT[1]} against {BARE[1]}: 0.90 times (0.50 to 1.00), the goal is 0.95: missed"]


def test_every_goal_names_contenders_that_there_are() -> None:
    assert {goal.one for goal in GOALS} <= {*FBKIT.values(), *map(half, FBKIT.values())}


def test_the_command_measures_fbkit_and_the_bare_loop(fbkit: Run, tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("trains by every contender, each in a process of its own: in full only (make test-all)")
    out = tmp_path / "speed"
    shown = fbkit("bench", "train", "--out", out, "--rounds", 2, "--warmup", 1, "--turns", 1, "--width", 4)
    assert shown.code == 0, shown.err
    rows = list(csv.DictReader((out / "speed.csv").open()))
    names = [*BARE.values(), *FBKIT.values()]
    assert [row["contender"] for row in rows] == [*names, *map(half, names)]
    assert all(float(row["pictures_per_second"]) > 0 and int(row["peak_bytes"]) > 50 * 2**20 for row in rows)
    for same in (FBKIT.values(), [*map(half, FBKIT.values())]):  # one worker and two train the same model
        assert len({row["accuracy"] for row in rows if row["contender"] in same}) == 1
    assert "the goal is 1.85" in (out / "speed.md").read_text()


def test_the_workload_is_the_recipes_federation(tmp_path: Path) -> None:
    prepared = prepare(tmp_path, 3, 1, 4)
    offsets, indices = (np.load(tmp_path / "workload" / f"{name}.npy") for name in ("offsets", "indices"))
    for client, own in enumerate(prepared.clients.train):
        assert torch.equal(own, torch.from_numpy(indices[offsets[client] : offsets[client + 1]]))
    assert np.load(tmp_path / "workload" / "cohorts.npy").shape == (3, 10)


def test_a_contender_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    failing = Contender("no good", [sys.executable, "-c", "print('oh dear'); raise SystemExit(3)"], "workload", [], 1)
    with pytest.raises(UserError, match=r"no good: ended with 3 and no result; .*turn\.log"):
        run_contender(failing, tmp_path, tmp_path / "turn")
    assert "oh dear" in (tmp_path / "turn.log").read_text()


def test_bad_input_ends_in_one_line(fbkit: Run, tmp_path: Path) -> None:
    for arguments, said in (
        (("--out", tmp_path), "exists already"),
        (("--out", tmp_path / "new", "--warmup", 9, "--rounds", 9), "--warmup 9: of --rounds 9 none would be left"),
        (("--out", tmp_path / "new", "--rivals", "nothing"), "--rivals nothing: no such Python"),
    ):
        shown = fbkit("bench", "train", *arguments)
        assert (shown.code, shown.err.count("\n")) == (2, 1)
        assert said in shown.err
    assert not (tmp_path / "new").exists()
