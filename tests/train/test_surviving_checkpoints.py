"""Which checkpoints are kept, and what a run goes on from when the newest is damaged."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fbkit.errors import UserError
from fbkit.train.checkpoints import CheckpointPolicy, Checkpoints
from fbkit.train.recipe import load_recipe
from fbkit.train.run_folder import Run
from fbkit.train.training import train
from tests.conftest import Outcome
from tests.train.processes import assert_same_run, flags, start_training, wait_for_round

SETTINGS = (
    "model.width=6",
    "clients.count=1000",
    "clients.held_out=990",
    "training.algorithm=ditto",
    "training.rounds=16",
    "training.cohort=4",
    "training.checkpoint_every=3",
    "personalization=[]",
    "evaluation.every=0",
)


def net(value: float = 0) -> nn.Module:
    layer = nn.Linear(2, 2)
    nn.init.constant_(layer.weight, value)
    return layer


def checkpoints_in(folder: Path, **policy: float) -> Checkpoints:
    (folder / "checkpoints").mkdir(exist_ok=True)
    return Checkpoints(folder, CheckpointPolicy(**policy))  # type: ignore[arg-type]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for kept, left in ((1, [9]), (2, [7, 9]), (5, [1, 3, 5, 7, 9])):
        folder = tmp_path / str(kept)
        folder.mkdir()
        checkpoints = checkpoints_in(folder, kept=kept)
        assert checkpoints.oldest == 0
        for number in (1, 3, 5, 7, 9):
            checkpoints.save(net(number), number)
        assert checkpoints.rounds() == left
        assert checkpoints.oldest == left[0]
        found = net()
        assert checkpoints.load_newest(found) == (9, "")
        assert float(found.state_dict()["weight"][0, 0]) == 9


@pytest.mark.parametrize("next_round", [15, 20, 25])
def test_only_whole_ones_count_towards_those_that_are_kept(tmp_path: Path, next_round: int) -> None:
    checkpoints = checkpoints_in(tmp_path, kept=2)
    checkpoints.save(net(10), 10)
    checkpoints.save(net(20), 20)
    (tmp_path / "checkpoints" / "round-00020.safetensors").write_bytes(b"damaged")
    found = net()
    number, wrong = checkpoints.load_newest(found)
    assert (number, float(found.state_dict()["weight"][0, 0])) == (10, 10)
    assert "round-00020.safetensors: not a whole safetensors file" in wrong
    checkpoints.save(net(15), next_round)
    assert checkpoints.rounds() == [10, next_round]
    assert checkpoints.load_newest(found) == (next_round, "")


def test_a_model_that_is_not_finite_does_not_take_a_good_ones_place(tmp_path: Path) -> None:
    checkpoints = checkpoints_in(tmp_path, kept=1)
    checkpoints.save(net(1), 3)
    with pytest.raises(UserError, match=r"the model is not finite after round 6; lower training\.lr"):
        checkpoints.save(net(float("nan")), 6)
    assert checkpoints.rounds() == [3]


def test_minutes_are_counted_from_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    checkpoints, never = checkpoints_in(tmp_path, minutes=2), checkpoints_in(tmp_path)
    now += 119
    assert not checkpoints.is_due
    now += 1
    assert checkpoints.is_due
    assert not never.is_due
    checkpoints.save(net(), 1)
    assert not checkpoints.is_due


def test_a_policy_that_makes_no_sense_is_refused(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    for option in ("--checkpoint-minutes=-1", "--checkpoint-minutes=nan", "--keep-checkpoints=0"):
        outcome = fbkit("train", "--out", tmp_path / "run", option)
        assert outcome.code == 2
        assert option.partition("=")[0] in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_from_a_damaged_checkpoint_a_run_goes_back_to_the_one_before(
    tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    expected = train(load_recipe(None, SETTINGS), tmp_path / "undisturbed", workers=1)
    folder = tmp_path / "run"
    process = start_training(folder, SETTINGS, "--workers", 1, "--checkpoint-minutes", 1e-6, "--keep-checkpoints", 3)
    wait_for_round(folder, 11)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    *_, older, damaged, newest = Checkpoints(folder).rounds()
    assert newest == older + 2  # a checkpoint after each round, by time
    for number in (damaged, newest):
        path = folder / "checkpoints" / f"round-{number:05d}.safetensors"
        torch.save({}, path)
    outcome = fbkit("train", "--out", folder, "--resume", "--workers", 1, *flags(SETTINGS))
    assert outcome.code == 0, outcome.err
    said = f"round-{newest:05d}.safetensors: not a whole safetensors file"
    assert said in outcome.err
    assert "going back to the checkpoint before it" in outcome.err
    assert f"going on after round {older} of 16" in outcome.err
    assert_same_run(folder, expected)


def broken_run(run: Run, folder: Path) -> None:
    for name in ("recipe.toml", "run.json"):
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes((run.folder / name).read_bytes())


def test_without_a_whole_checkpoint_nothing_is_begun_anew_in_silence(
    small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    folder = tmp_path / "run"
    broken_run(small_run, folder)
    (folder / "checkpoints").mkdir()
    for number in (1, 2):
        (folder / "checkpoints" / f"round-{number:05d}.safetensors").write_bytes(b"")
    outcome = fbkit("train", "--out", folder, "--resume", "--workers", 1)
    assert outcome.code == 2
    assert "round-00002.safetensors: not a whole safetensors file" in outcome.err
    assert f"no checkpoint is whole; remove them from {folder}/checkpoints, and --resume begins" in outcome.err
