"""``fbkit watch`` as a user runs it, in a process of its own, with files that come, break, go and come back."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.profile import Profile, changing_profile, find_profile
from tests.conftest import FBKIT, run_fbkit
from tests.device_runtime.conftest import BUNDLE, opened, some

SETTLE = 0.3


@dataclass
class Watching:
    """A running one, and what it has said."""

    process: subprocess.Popen[str]
    profile: Path
    lines: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)

    def says(self, event: str = "said", seconds: float = 20) -> dict[str, Any]:
        """The next line, which must be of this kind."""
        line = self.lines.get(timeout=seconds)
        assert line["event"] == event, line
        return line

    def is_silent(self, seconds: float = 1.6) -> bool:
        time.sleep(seconds)
        return self.lines.empty()


@contextmanager
def watching(folder: Path, profile: Path, *options: object) -> Iterator[Watching]:
    command = [FBKIT, "watch", BUNDLE, folder, "--profile", profile, "--settle", SETTLE, "--json", *options]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        running = Watching(process, profile)

        def read() -> None:
            for line in process.stdout or ():
                running.lines.put(json.loads(line))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            running.says("watching")
            yield running
        finally:
            process.kill()
            reader.join()


def stopped(running: Watching, number: int = signal.SIGTERM) -> tuple[int, str]:
    running.process.send_signal(number)
    _, said = running.process.communicate(timeout=15)
    return running.process.returncode, said


def put(folder: Path, label: str, count: int = 10, first: int = 0) -> None:
    target = folder / label
    target.mkdir(parents=True, exist_ok=True)
    for path in some(label, first + count)[first:]:
        shutil.copy(path, target / path.name)


def remembered(profile: Profile | None) -> dict[str, int]:
    if profile is None:
        return {}
    labels = profile.memory().labels.tolist()
    return {name: labels.count(place) for place, name in enumerate(profile.classes) if place in labels}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    return made


def test_pictures_are_learned_as_they_come_and_not_again_after_a_restart(
    folder: Path, demo: Bundle, tmp_path: Path
) -> None:
    profile = tmp_path / "profile"
    put(folder, "sneaker")
    with watching(folder, profile) as running:
        first = running.says("learned")
        assert (first["new"], first["pictures"]) == (10, {"sneaker": 10})
        put(folder, "t-shirt")
        second = running.says("learned")
        assert (second["new"], second["pictures"]) == (10, {"sneaker": 10, "t-shirt": 10})
        assert second["verdict"]["verified"]
        assert os.getpriority(os.PRIO_PROCESS, running.process.pid) == 10
        assert stopped(running) == (0, "")
    before = (profile / "profile.json").read_bytes()
    with watching(folder, profile) as running:
        assert running.is_silent()
        assert stopped(running) == (0, "")
    assert (profile / "profile.json").read_bytes() == before
    assert len(opened(profile, demo).state.heads) == 2


def test_half_written_and_broken_files_are_waited_for_and_told_of_once(
    folder: Path, demo: Bundle, tmp_path: Path
) -> None:
    whole = some("sneaker")[0].read_bytes()
    with watching(folder, tmp_path / "profile") as running:
        put(folder, "sneaker", count=2, first=1)
        slow = folder / "sneaker" / "slow.png"
        with slow.open("wb") as file:
            for place in range(0, len(whole), len(whole) // 8):
                file.write(whole[place : place + len(whole) // 8])
                file.flush()
                time.sleep(SETTLE / 2)
        told = running.says("learned")
        assert told["new"] == 3, "one fit, when all is written"
        broken = folder / "sneaker" / "broken.png"
        broken.write_bytes(whole[: len(whole) // 2])
        (folder / "sneaker" / "empty.png").touch()
        (folder / "sneaker" / ".hidden.png").write_bytes(b"not a picture")
        os.mkfifo(folder / "sneaker" / "pipe.png")
        (folder / "hat").mkdir()
        said = [running.says(), running.says()]
        assert sorted(Path(each["path"]).name for each in said) == ["broken.png", "hat"]
        assert all("\n" not in each["what"] for each in said)
        put(folder, "sneaker", count=1, first=4)
        assert running.says("learned")["new"] == 1
        assert running.is_silent(1.2)
        broken.write_bytes(some("sneaker")[5].read_bytes())
        assert running.says("learned")["new"] == 1
        assert stopped(running) == (0, "")
    assert remembered(opened(tmp_path / "profile", demo)) == {"sneaker": 5}


def test_a_folder_that_is_removed_is_waited_for(folder: Path, demo: Bundle, tmp_path: Path) -> None:
    with watching(folder, tmp_path / "profile", "--add-classes") as running:
        put(folder, "sneaker", 2)
        running.says("learned")
        shutil.rmtree(folder)
        assert "is gone" in running.says()["what"]
        (folder / "hat").mkdir(parents=True)
        assert "is back" in running.says()["what"]
        shutil.copy(some("t-shirt")[0], folder / "hat")
        assert running.says("learned")["pictures"] == {"sneaker": 2, "hat": 1}
        assert stopped(running) == (0, "")
    assert opened(tmp_path / "profile", demo).classes[-1] == "hat"


def test_a_profile_that_others_change_is_waited_for(folder: Path, demo: Bundle, tmp_path: Path) -> None:
    profile = tmp_path / "profile"
    with watching(folder, profile) as running:
        with changing_profile(profile, demo.manifest):
            put(folder, "sneaker", 3)
            assert running.is_silent()
        assert running.says("learned")["new"] == 3
        assert stopped(running) == (0, "")


def test_a_watch_that_is_killed_goes_on_where_it_was(folder: Path, demo: Bundle, tmp_path: Path, full: bool) -> None:
    profile = tmp_path / "profile"
    put(folder, "sneaker")
    put(folder, "t-shirt")
    for number in range(12 if full else 2):
        with watching(folder, profile) as running:
            time.sleep(1 + number * (0.05 if full else 0.2))  # around the time when it learns
            running.process.kill()
    with watching(folder, profile) as running:
        wait_for(lambda: remembered(find_profile(profile, demo.manifest)) == {"sneaker": 10, "t-shirt": 10})
        wait_for(lambda: opened(profile, demo).state.in_use is not None)
        assert stopped(running)[0] == 0
    events = [entry["event"] for entry in opened(profile, demo).journal()]
    assert events[-1] == "fit"


def wait_for(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_how_it_ends(folder: Path, tmp_path: Path) -> None:
    with watching(folder, tmp_path / "profile") as running:
        code, said = stopped(running, signal.SIGINT)
    assert code == 130
    assert said.count("\n") == 1
    for data, profile in ((tmp_path / "nowhere", tmp_path / "profile"), (folder, tmp_path)):
        ended = run_fbkit("watch", BUNDLE, data, "--profile", profile)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1


def test_what_it_says_to_people(folder: Path, tmp_path: Path) -> None:
    put(folder, "sneaker", 2)
    command = [FBKIT, "watch", BUNDLE, folder, "--profile", tmp_path / "profile", "--settle", "0"]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == f"watching {folder}; Ctrl-C ends it\n"
        line = process.stdout.readline()
        assert line.startswith("2 new pictures, 2 in all: there are fewer than 10 pictures to judge by; personal head ")
        process.terminate()
    assert process.returncode == 0


UNIT = Path(__file__).parents[2] / "examples" / "systemd" / "fbkit-watch.service"


def test_the_service_runs_the_command(folder: Path, demo: Bundle, tmp_path: Path) -> None:
    """As systemd would, but for the folders."""
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    for there, here in (
        ("/home/pi/fbkit/bin/fbkit", FBKIT),
        ("/home/pi/bundle", BUNDLE),
        ("/home/pi/pictures", folder),
        ("${STATE_DIRECTORY}", tmp_path),
    ):
        assert there in line
        line = line.replace(there, str(here))
    put(folder, "sneaker", 1)
    with subprocess.Popen(line.removeprefix("ExecStart=").split(), stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: remembered(find_profile(tmp_path / "me", demo.manifest)) == {"sneaker": 1})
        process.terminate()
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_service(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/home/pi/fbkit/bin/fbkit", str(FBKIT)).replace("User=pi", "User=root"))
    ended = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
