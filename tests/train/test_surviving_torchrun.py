"""torchrun: lost workers, restarts, several machines (here two agents on one), to the same bits."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from fbkit.train.recipe import load_recipe
from fbkit.train.run_folder import Run
from fbkit.train.training import train
from tests.train.processes import (
    TORCHRUN,
    assert_same_run,
    flags,
    names_in,
    rounds_in,
    start,
    wait_for_round,
    workers_of_rank,
)

SETTINGS = (
    "model.width=6",
    "clients.count=1000",
    "clients.held_out=980",
    "training.algorithm=fedrep",
    "training.rounds=20",
    "training.cohort=7",
    "training.checkpoint_every=3",
    "personalization=[]",
    "evaluation.every=0",
)
AGAIN_AND_AGAIN = ("training.rounds=100000", "training.checkpoint_every=1")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(load_recipe(None, SETTINGS), tmp_path_factory.mktemp("runs") / "undisturbed", workers=1)


def start_torchrun(
    folder: Path, *options: object, settings: tuple[str, ...] = (), env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    command = (TORCHRUN, *options, "-m", "fbkit", "train", "--out", folder, "--resume")
    return start(*command, *flags((*SETTINGS, *settings)), env=env)


def going_on_after(errors: str) -> list[int]:
    return [int(number) for number in re.findall(r"going on after round (\d+) of", errors)]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_worker_costs_at_most_the_rounds_since_the_last_checkpoint(
    undisturbed: Run, tmp_path: Path, rank: int, full: bool
) -> None:
    if rank and not full:
        pytest.skip("the other worker's death is left to make test-all")
    folder = tmp_path / "run"
    process = start_torchrun(folder, "--standalone", "--max-restarts=2", "--nproc-per-node=2")
    wait_for_round(folder, 8)
    (worker,) = workers_of_rank(process.pid, rank)
    os.kill(worker, signal.SIGKILL)
    reached = rounds_in(folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    (went_on,) = going_on_after(errors)
    assert reached - 3 <= went_on <= reached + 1
    assert_same_run(folder, undisturbed)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def start_nodes(folder: Path, *options: object, env: dict[str, str] | None = None) -> list[subprocess.Popen[str]]:
    """Two agents that share nothing but a port of this machine and the run folder."""
    meeting = ("--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=test")
    here = ("--nnodes=2", "--nproc-per-node=1", "--local-addr=127.0.0.1")
    return [start_torchrun(folder, *meeting, *here, *options, env=env) for _ in range(2)]


def test_two_nodes_train_to_the_same_bits(undisturbed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    outputs = []
    for process in (nodes := start_nodes(folder)):
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        outputs.append(out)
    assert len(nodes) == len(outputs) == 2
    assert "".join(outputs).count("run folder:") == 1
    assert_same_run(folder, undisturbed)


@pytest.mark.parametrize("new_store", ["0", "1"])
def test_two_nodes_go_on_when_one_loses_its_worker(
    undisturbed: Run, tmp_path: Path, full: bool, new_store: str
) -> None:
    if not full:
        pytest.skip("left to make test-all")
    folder = tmp_path / "run"
    env = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": new_store}
    nodes = start_nodes(folder, "--max-restarts=3", env=env)
    wait_for_round(folder, 8)
    (worker,) = (found for process in nodes for found in workers_of_rank(process.pid, 1))
    os.kill(worker, signal.SIGKILL)
    errors = [process.communicate(timeout=300)[1] for process in nodes]
    assert [process.returncode for process in nodes] == [0, 0], errors
    assert going_on_after("".join(errors))
    assert_same_run(folder, undisturbed)


def test_sigterm_to_torchrun_ends_with_a_checkpoint_of_the_round(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("left to make test-all")
    folder = tmp_path / "run"
    endless = ("training.rounds=100000", "training.checkpoint_every=100000")
    process = start_torchrun(folder, "--standalone", "--nproc-per-node=2", settings=endless)
    wait_for_round(folder, 3)
    process.terminate()
    _, errors = process.communicate(timeout=300)
    (said,) = (line for line in errors.splitlines() if "fbkit: " in line)
    assert f"stopped after round {rounds_in(folder)} of 100000; go on with: fbkit train" in said
    assert names_in(folder / "checkpoints") == [f"round-{rounds_in(folder):05d}.safetensors"]


def test_what_another_worker_could_not_write_is_said_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start_torchrun(folder, "--standalone", "--nproc-per-node=2", settings=AGAIN_AND_AGAIN)
    wait_for_round(folder, 3)
    (worker,) = workers_of_rank(process.pid, 1)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (100, 100))  # its disk is full
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    said = [line for line in errors.splitlines() if "fbkit: " in line]
    assert len(said) == 1, errors
    assert re.search(r"clients/\d+/round-\d+\.safetensors: cannot be written \(File too large\); make room", said[0])


def test_a_killed_worker_without_restarts_is_said_in_one_line(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("left to make test-all")
    folder = tmp_path / "run"
    process = start_torchrun(folder, "--standalone", "--nproc-per-node=2", settings=AGAIN_AND_AGAIN)
    wait_for_round(folder, 3)
    (worker,) = workers_of_rank(process.pid, 1)
    os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode != 0
    said = [line for line in errors.splitlines() if "fbkit: " in line]
    assert len(said) == 1, errors
    assert "a training worker ended early" in said[0]
