"""Disks that are full or may not be written: one line that names the file, and a run that goes on afterwards."""

from __future__ import annotations

import os
import re
import resource
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fbkit.train.event_file import EventFile
from fbkit.train.recipe import load_recipe
from fbkit.train.run_folder import Run
from fbkit.train.training import train
from tests.conftest import FBKIT, Outcome, run_fbkit
from tests.train.processes import assert_same_run, children_of, flags, names_in, start_training, wait_for_round

SETTINGS = (
    "model.width=6",
    "clients.count=1000",
    "clients.held_out=980",
    "training.algorithm=fedrep",
    "training.rounds=12",
    "training.cohort=4",
    "training.checkpoint_every=3",
    "personalization=[]",
    "evaluation.every=0",
)
ENDLESS = ("training.rounds=100000", "training.checkpoint_every=100000")
ADVICE = "make room there or make it writable, then go on from the last checkpoint with: fbkit train --out "


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(load_recipe(None, SETTINGS), tmp_path_factory.mktemp("runs") / "undisturbed", workers=1)


def said_in_one_line(process: subprocess.Popen[str]) -> str:
    """What a command that failed said after its progress."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    (said,) = (line for line in errors.splitlines() if line.startswith("fbkit: "))
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1] == said
    return said


def file_sizes_up_to(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def may_mount(folder: Path) -> bool:
    """Whether a user may mount a disk in memory here, seen by the user's own processes alone."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "small", str(folder)]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_disk_leaves_a_run_that_goes_on_to_the_same_bits(undisturbed: Run, tmp_path: Path) -> None:
    small, kept = tmp_path / "small", tmp_path / "kept"
    small.mkdir()
    if not may_mount(small):
        pytest.skip("a full disk is a small one in memory, which this system lets nobody mount")
    command = [FBKIT, "train", "--out", small / "run", "--workers", 1, *flags(SETTINGS)]
    script = (
        f"mount -t tmpfs -o size=160k small {small} || exit 99\n"
        f"{shlex.join(map(str, command))}; code=$?\n"
        f"cp -a {small}/run {kept}; exit $code"
    )
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 2, result.stderr
    said = result.stderr.strip().splitlines()[-1]
    assert re.match(rf"fbkit: {small}/run/\S+: cannot be written \(No space left on device\); {ADVICE}", said)
    assert names_in(kept / "checkpoints")
    again = run_fbkit("train", "--out", kept, "--resume", "--workers", 1)
    assert again.returncode == 0, again.stderr
    assert "going on after round" in again.stderr
    assert_same_run(kept, undisturbed)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("left to make test-all")
    process = start_training(tmp_path / "run", SETTINGS, "--workers", 1, preexec_fn=file_sizes_up_to(500))
    assert re.search(rf"{tmp_path}/run: cannot be made \(File too large\); make room or", said_in_one_line(process))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("limit", "settings", "named"),
    [
        (3500, ("training.checkpoint_every=1",), r"checkpoints/round-00001\.safetensors"),
        (1100, (), r"clients/\d+/round-00001\.safetensors"),
        (1500, (), r"metrics\.jsonl"),
    ],
)
def test_each_file_that_cannot_be_written_is_named(
    tmp_path: Path, full: bool, limit: int, settings: tuple[str, ...], named: str
) -> None:
    if not full:
        pytest.skip("left to make test-all")
    folder = tmp_path / "run"
    settings = (*SETTINGS, *ENDLESS, *settings)
    process = start_training(folder, settings, "--workers", 1, preexec_fn=file_sizes_up_to(limit))
    assert re.search(rf"{folder}/{named}: cannot be written \(File too large\); {ADVICE}", said_in_one_line(process))
    assert not list(folder.glob("**/.*"))


def test_events_that_cannot_grow_are_named(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "tensorboard", first_step=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*/tensorboard/events"):
            events.write(1, {"train_loss": 1.0})
        events.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_another_worker_could_not_write_is_named(tmp_path: Path, full: bool) -> None:
    if not full:
        pytest.skip("left to make test-all")
    folder = tmp_path / "run"
    process = start_training(folder, (*SETTINGS, *ENDLESS), "--workers", 2)
    wait_for_round(folder, 2)
    (worker,) = children_of(process.pid)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (100, 100))
    said = said_in_one_line(process)
    assert re.search(rf"{folder}/clients/\d+/round-\d+\.safetensors: cannot be written \(File too large\); make", said)


def test_a_folder_that_may_not_be_written_is_named(
    small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome], full: bool
) -> None:
    if not full:
        pytest.skip("left to make test-all")
    if not shutil.which("setpriv") and os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    as_user = ["setpriv", "--bounding-set=-all"] if os.geteuid() == 0 else []
    run = tmp_path / "run"
    shutil.copytree(small_run.folder, run)
    (run / "evaluation.json").unlink()
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    cases = [
        (sealed / "new", ["--set", "training.rounds=1"], sealed),
        (run, ["--resume"], run),
        (run, ["--resume"], run / "tensorboard"),
    ]
    for out, more, folder in cases:
        folder.chmod(0o555)
        command = [*as_user, FBKIT, "train", "--out", out, "--workers", "1", *more]
        result = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)
        folder.chmod(0o755)
        assert result.returncode == 2, result.stderr
        said = result.stderr.strip().splitlines()[-1]
        assert re.match(rf"fbkit: {out}\S*: cannot be (made|written) \(Permission denied\)", said), said
    outcome = fbkit("train", "--out", run, "--resume", "--workers", 1)
    assert outcome.code == 0, outcome.err
