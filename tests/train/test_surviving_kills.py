"""SIGKILL at any moment: what is left is gone on with by ``--resume``, to the same bits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fbkit.train.run_folder import Run, open_run
from tests.train.processes import (
    assert_same_run,
    children_of,
    names_in,
    rounds_in,
    start_training,
    wait_until_gone,
)

SETTINGS = (
    "model.width=6",
    "clients.count=1000",
    "clients.held_out=970",
    "training.rounds=24",
    "training.cohort=6",
    "training.checkpoint_every=2",
    "personalization=[{part='head', epochs=2, lr=0.01}]",
    "evaluation.every=0",
    "evaluation.clients=training",
)
KILLS = 30
OPTIONS = ("--workers", 2, "--checkpoint-minutes", 0.005, "--resume")  # the same whether it begins or goes on


@dataclass(frozen=True)
class Undisturbed:
    """A run that nothing happened to, and how long the command took."""

    run: Run
    settings: tuple[str, ...]
    seconds: float


@pytest.fixture(scope="module", params=["ditto", "fedbabu"])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, full: bool) -> Undisturbed:
    if not full and request.param == "fedbabu":
        pytest.skip("one of two algorithms is left to make test-all")
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    settings = (*SETTINGS, f"training.algorithm={request.param}")
    started = time.monotonic()
    process = start_training(folder, settings, *OPTIONS)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return Undisturbed(open_run(folder), settings, time.monotonic() - started)


def writes_going_on(folder: Path) -> list[str]:
    """The temporary names of checkpoints that are being written."""
    return [name for name in names_in(folder / "checkpoints") if name.startswith(".")]


def kill_inside_a_write(process: subprocess.Popen[str], folder: Path, chance: random.Random) -> bool:
    """Kill all of it inside one of the next writes of a checkpoint; tell whether the write was still going on."""
    for name in writes_going_on(folder):  # of an earlier kill; gone when the run goes on
        while (folder / "checkpoints" / name).exists() and process.poll() is None:
            time.sleep(0.001)
    for _ in range(chance.randint(1, 3)):
        while writes_going_on(folder):
            pass
        while not writes_going_on(folder):
            if process.poll() is not None:
                return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return bool(writes_going_on(folder))


def kill_at_a_moment(process: subprocess.Popen[str], seconds: float, alone: bool) -> bool:
    """Kill all of it, or the first process alone; tell whether it was still running."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        others = children_of(process.pid)
        if alone:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_until_gone(others)
        return True
    return False


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_happened(
    undisturbed: Undisturbed, tmp_path: Path, full: bool
) -> None:
    chance = random.Random(undisturbed.run.recipe.training.algorithm)  # noqa: S311  the same moments each time
    wanted = KILLS // 2 if full else 3
    killed, inside, number = 0, 0, 0
    folder = tmp_path / "0"
    while killed < wanted:
        process = start_training(folder, undisturbed.settings, *OPTIONS)
        if killed % 3 == 2:
            hit = kill_inside_a_write(process, folder, chance)
            inside += hit
        else:
            hit = kill_at_a_moment(process, chance.uniform(0, undisturbed.seconds), alone=killed % 3 == 1)
        killed += hit
        process.communicate(timeout=60)
        print(f"killed {killed}, {inside} inside a write; {rounds_in(folder)} rounds in folder {number}")  # noqa: T201
        if process.returncode == 0:  # it was faster; the next kill hits a new run
            assert_same_run(folder, undisturbed.run)
            number += 1
            folder = tmp_path / str(number)
    process = start_training(folder, undisturbed.settings, *OPTIONS)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert_same_run(folder, undisturbed.run)
    assert inside == wanted // 3
