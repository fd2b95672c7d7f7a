"""What stays with clients: the same on any number of workers, after a kill, and bounded on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from fbkit.errors import UserError
from fbkit.train.client_states import ClientStates
from fbkit.train.recipe import load_recipe
from fbkit.train.run_folder import Run
from fbkit.train.training import resume, train
from tests.conftest import FBKIT

OWN = (
    "model.width=6",
    "clients.count=250",
    "clients.held_out=220",
    "training.rounds=14",
    "training.cohort=10",
    "training.checkpoint_every=4",
    "personalization=[{part='head', epochs=[1, 2], lr=0.01, statistics='static'}]",
    "evaluation.every=0",
    "evaluation.clients=all",
)
ALGORITHMS = ("fedrep", "ditto", "lg-fedavg")


def recipe_of(algorithm: str) -> list[str]:
    return [*OWN, f"training.algorithm={algorithm}"]


def kept_by(folder: Path) -> dict[str, bytes]:
    """The newest file of each client."""
    return {client.name: sorted(client.iterdir())[-1].read_bytes() for client in sorted((folder / "clients").iterdir())}


@pytest.fixture(scope="module", params=ALGORITHMS)
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, full: bool) -> Run:
    if not full and request.param == "lg-fedavg":
        pytest.skip("one of three algorithms is left to make test-all")
    folder = tmp_path_factory.mktemp("own") / request.param
    return train(load_recipe(None, recipe_of(request.param)), folder, workers=1)


def test_two_workers_keep_the_same_bits(undisturbed: Run, tmp_path: Path) -> None:
    two = train(undisturbed.recipe, tmp_path / "two", workers=2)
    assert kept_by(two.folder) == kept_by(undisturbed.folder)
    assert two.evaluation == undisturbed.evaluation


def test_a_killed_run_finds_what_clients_had_at_its_checkpoint(undisturbed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [str(FBKIT), "train", "--out", str(folder), "--workers", "2"]
    command += [flag for setting in recipe_of(undisturbed.recipe.training.algorithm) for flag in ("--set", setting)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((folder / "clients").glob("*/round-00007.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)  # after the checkpoint of round 4, while clients have newer parts
    process.communicate(timeout=60)
    resume(folder, workers=2)
    assert kept_by(folder) == kept_by(undisturbed.folder)
    assert (folder / "evaluation.json").read_bytes() == (undisturbed.folder / "evaluation.json").read_bytes()


def test_held_out_clients_have_nothing_and_the_evaluation_says_so(undisturbed: Run) -> None:
    evaluation = undisturbed.evaluation
    algorithm = undisturbed.recipe.training.algorithm
    assert evaluation.own_part == {"fedrep": "head", "ditto": "model", "lg-fedavg": "body"}[algorithm]
    assert len(evaluation.without_own) >= 220
    assert {int(name) for name in kept_by(undisturbed.folder)} == set(range(250)) - set(evaluation.without_own)


def test_old_rounds_are_removed_once_a_checkpoint_is_durable(tmp_path: Path) -> None:
    states = ClientStates(tmp_path / "clients")
    head = nn.Linear(3, 2)
    for number in (1, 2, 3):
        states.keep(7, number, head)
    folder = tmp_path / "clients" / "00000007"
    assert len(list(folder.iterdir())) == 3  # no checkpoint yet: any of them may be needed
    states.durable_round = 3
    states.keep(7, 5, head)
    assert sorted(path.name for path in folder.iterdir()) == ["round-00003.safetensors", "round-00005.safetensors"]
    states.forget_after(4)
    assert [path.name for path in folder.iterdir()] == ["round-00003.safetensors"]
    assert not states.restore(8, head)


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    states = ClientStates(tmp_path / "clients")
    head = nn.Linear(3, 2)
    states.keep(7, 1, head)
    path = tmp_path / "clients" / "00000007" / "round-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"00000007/round-00001\.safetensors: not a whole safetensors file"):
        states.restore(7, head)
    states.keep(7, 1, nn.Linear(4, 2))
    with pytest.raises(UserError, match=r"weight is torch\.float32 \[2, 4\]"):
        states.restore(7, head)
    with torch.no_grad():
        head.weight.fill_(float("nan"))
    states.keep(7, 1, head)
    with pytest.raises(UserError, match="not finite"):
        states.restore(7, head)
