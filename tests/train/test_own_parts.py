"""What stays with clients: the same on any number of workers, after a kill, and bounded on disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from fbkit.errors import UserError
from fbkit.train.client_states import ClientStates
from fbkit.train.cohorts import sample_cohort
from fbkit.train.partition import partition
from fbkit.train.recipe import load_recipe
from fbkit.train.run_folder import Run
from fbkit.train.sources import load_dataset
from fbkit.train.training import resume, train
from fbkit.train.weights import save_weights
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
    if not full and request.param != "fedrep":
        pytest.skip("two of three algorithms are left to make test-all")
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
    states.note([7], 3)
    states.tidy()
    assert [path.name for path in folder.iterdir()] == ["round-00003.safetensors"]
    assert not states.restore(8, head)


def test_what_counts_follows_from_the_cohorts_not_from_the_folder(tmp_path: Path) -> None:
    states = ClientStates(tmp_path / "clients")
    old, late = nn.Linear(3, 2), nn.Linear(3, 2)
    states.keep(7, 2, old)
    states.keep(7, 4, late)  # of a round that a killed run never finished
    states.note([7], 2)
    found = nn.Linear(3, 2)
    assert states.restore(7, found)
    assert torch.equal(found.weight, old.weight)
    (tmp_path / "clients" / "00000007" / "round-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"00000007/round-00002\.safetensors: no such file"):
        states.restore(7, found)


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    states = ClientStates(tmp_path / "clients")
    head = nn.Linear(3, 2)
    states.keep(7, 1, head)
    states.note([7], 1)
    path = tmp_path / "clients" / "00000007" / "round-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"00000007/round-00001\.safetensors: not a whole safetensors file"):
        states.restore(7, head)
    states.keep(7, 1, nn.Linear(4, 2))
    with pytest.raises(UserError, match=r"weight is torch\.float32 \[2, 4\]"):
        states.restore(7, head)
    with torch.no_grad():
        head.weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"client 7's own part is not finite after round 2; lower training\.lr"):
        states.keep(7, 2, head)


def test_a_file_written_late_by_a_killed_runs_worker_is_not_looked_at(tmp_path: Path) -> None:
    settings = [*recipe_of("fedrep"), "training.rounds=4", "training.checkpoint_every=2"]
    undisturbed = train(load_recipe(None, settings), tmp_path / "undisturbed", workers=1)
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.folder, folder)
    (folder / "evaluation.json").unlink()
    late = sample_cohort(undisturbed.recipe, partition_of(undisturbed), 4)[0]
    (path,) = (folder / "clients" / f"{late:08d}").iterdir()
    save_weights(path.with_name("round-00009.safetensors"), {"weight": torch.zeros(10, 24), "bias": torch.zeros(10)})
    assert resume(folder, workers=1).evaluation == undisturbed.evaluation
    assert kept_by(folder) == kept_by(undisturbed.folder)


def partition_of(run: Run) -> Sequence[int]:
    return partition(load_dataset(run.recipe.data), run.recipe.clients, run.recipe.seed).training


def test_an_error_in_another_worker_is_the_one_that_is_said(tmp_path: Path) -> None:
    settings = [*recipe_of("fedrep"), "training.rounds=4", "evaluation.clients=training"]
    run = train(load_recipe(None, settings), tmp_path / "run", workers=1)
    (run.folder / "evaluation.json").unlink()
    for client in (run.folder / "clients").iterdir():
        (path,) = client.iterdir()
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"round-0000\d\.safetensors: not a whole safetensors file"):
        resume(run.folder, workers=3)


def test_dittos_held_out_clients_are_judged_with_the_servers_model(tmp_path: Path) -> None:
    settings = [*OWN, "training.rounds=3", "evaluation.clients=held-out", "personalization=[]"]
    plain, ditto = (
        train(load_recipe(None, [*settings, f"training.algorithm={name}"]), tmp_path / name, workers=1)
        for name in ("fedavg", "ditto")
    )
    assert (plain.folder / "body.safetensors").read_bytes() == (ditto.folder / "body.safetensors").read_bytes()
    assert ditto.evaluation.initial == plain.evaluation.initial
