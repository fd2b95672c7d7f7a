"""Runs of the real command in processes of their own, to be watched, killed and compared."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from fbkit.train.metrics import read_metrics
from fbkit.train.run_folder import Run
from tests.conftest import FBKIT

TORCHRUN = Path(sys.executable).with_name("torchrun")

RESULT = ("body.safetensors", "head.safetensors", "evaluation.json")


def flags(settings: tuple[str, ...]) -> list[str]:
    return [flag for setting in settings for flag in ("--set", setting)]


def start(*command: object, **options: object) -> subprocess.Popen[str]:
    """Start a command as the leader of a process group, its output to be read from pipes."""
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def start_training(folder: Path, settings: tuple[str, ...], *more: object, **options: object) -> subprocess.Popen[str]:
    return start(FBKIT, "train", "--out", folder, *flags(settings), *more, **options)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def rounds_in(folder: Path) -> int:
    """How many rounds the run's figures hold."""
    return len(read_metrics(folder)) if folder.exists() else 0


def wait_for_round(folder: Path, number: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while rounds_in(folder) < number:
        assert time.monotonic() < deadline, f"no round {number} within {seconds} s"
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """The processes started by one, without Python's own helper."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"{pids} still there after {seconds} s"
        time.sleep(0.01)


def workers_of_rank(torchrun: int, rank: int) -> list[int]:
    """The process that one of several torchruns started for a rank, if it is that one's."""
    named = f"RANK={rank}".encode()
    return [pid for pid in children_of(torchrun) if named in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]


def result_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULT]


def assert_same_run(folder: Path, expected: Run) -> None:
    """To the last bit; and nothing is left of what was interrupted on the way."""
    assert result_of(folder) == result_of(expected.folder)
    rounds = expected.recipe.training.rounds
    assert [line["round"] for line in read_metrics(folder)] == list(range(1, rounds + 1))
    assert names_in(folder / "checkpoints") == [f"round-{rounds:05d}.safetensors"]
    assert clients_files(folder) == clients_files(expected.folder)
    assert not list(folder.glob(".*"))


def clients_files(folder: Path) -> dict[str, bytes]:
    """What clients have of their own."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("clients/*/*")}
