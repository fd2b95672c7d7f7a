"""Whatever ends a command, the profile is the one before it or the one after it, and goes on."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.demo import FOLDER
from fbkit.device_runtime.profile import Profile, find_profile
from fbkit.device_runtime.profile.memory import as_stored
from fbkit.files import sha256_bytes
from tests.device_runtime.fork_server import ForkServer, fork_server

BUNDLE, PICTURES = FOLDER / "bundle", FOLDER / "pictures"


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with fork_server() as running:
        yield running


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile with two personal heads, of pictures that are remembered in two files, and one more to come."""
    folder = tmp_path_factory.mktemp("start")
    for path in sorted((PICTURES / "train").rglob("*.png")):
        batch = {"0": "first", "1": "first", "2": "first", "3": "second"}.get(path.stem[-1], "third")
        target = folder / batch / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    personalizer = Personalizer(Bundle.open(BUNDLE), folder / "profile")
    for batch in ("first", "second"):
        personalizer.fit(folder / batch)
    return folder


@dataclass(frozen=True)
class Seen:
    """What a profile means, without times and file names."""

    classes: tuple[str, ...]
    pictures: frozenset[tuple[str, str]]
    head: str | None
    heads: tuple[str, ...]
    events: tuple[str, ...]


def what_is_in(folder: Path, features: dict[str, bytes]) -> Seen:
    """Read it whole, and compare each picture's features with what the body gives."""
    profile = find_profile(folder, Bundle.open(BUNDLE).manifest)
    assert profile
    memory = profile.memory()
    for digest, row in memory.rows_by_digest().items():
        assert memory.features[row].tobytes() == features[digest]
    profile.head()
    by_file = {entry.file: entry.sha256 for entry in profile.state.heads}
    return Seen(
        profile.classes,
        frozenset((d, profile.classes[memory.labels[row]]) for d, row in memory.rows_by_digest().items()),
        by_file.get(profile.state.in_use or ""),
        tuple(by_file.values()),
        tuple(entry["event"] for entry in profile.journal()),
    )


@pytest.fixture(scope="module")
def features() -> dict[str, bytes]:
    bundle = Bundle.open(BUNDLE)
    contents = [path.read_bytes() for path in sorted((PICTURES / "train").rglob("*.png"))]
    rows = as_stored(bundle.features([bundle.decode(content) for content in contents]))
    return {sha256_bytes(content): row.tobytes() for content, row in zip(contents, rows, strict=True)}


def commands(folder: Path, profile: Path) -> dict[str, tuple[object, ...]]:
    return {
        "personalize": ("personalize", BUNDLE, folder / "third", "--profile", profile),
        "sgd": ("personalize", BUNDLE, folder / "third", "--profile", profile, "--solver", "sgd"),
        "remove the first": ("profile", "remove", BUNDLE, profile, "--number", 1),
        "remove a class": ("profile", "remove", BUNDLE, profile, "--class", "sneaker"),
        "roll back": ("profile", "rollback", BUNDLE, profile),
        "limit": ("profile", "limit", BUNDLE, profile, "--pictures", 4),
        "add a class": ("profile", "add-class", BUNDLE, profile, "hat"),
    }


@pytest.mark.parametrize("name", commands(Path(), Path()))
def test_a_command_killed_at_any_moment_has_happened_or_not(
    name: str, server: ForkServer, start: Path, features: dict[str, bytes], tmp_path: Path, full: bool
) -> None:
    profile = tmp_path / "profile"
    arguments = commands(start, profile)[name]
    allowed, seconds = possible(server, start, arguments, profile, features)
    rng = np.random.default_rng(sorted(commands(start, profile)).index(name))
    killed = 0
    for _ in range(45 if full else 6):
        again(start, profile)
        status = server.run(*arguments, kill_after=float(rng.uniform(0, 1.1 * seconds)))
        assert status in (0, -signal.SIGKILL)
        killed += status != 0
        finish(profile)
        assert what_is_in(profile, features) in allowed
        nothing_is_left_over(profile)
    assert killed


@pytest.mark.parametrize("name", commands(Path(), Path()))
def test_a_command_that_finds_the_disk_full_says_so_and_has_happened_or_not(
    name: str, server: ForkServer, start: Path, features: dict[str, bytes], tmp_path: Path, full: bool
) -> None:
    profile = tmp_path / "profile"
    arguments = commands(start, profile)[name]
    allowed, _ = possible(server, start, arguments, profile, features)
    sizes = sorted({path.stat().st_size for path in profile.rglob("*") if path.is_file()})
    limits = sorted({0, *(max(size + change, 0) for size in sizes for change in (-1, 0))})
    failed = 0
    for limit in limits if full else limits[:: max(len(limits) // 4, 1)]:
        again(start, profile)
        status = server.run(*arguments, file_bytes=limit)
        assert status in (0, 2)
        failed += status == 2
        nothing_is_left_over(profile)
        finish(profile)
        assert what_is_in(profile, features) in allowed
    assert failed


def possible(
    server: ForkServer, start: Path, arguments: tuple[object, ...], profile: Path, features: dict[str, bytes]
) -> tuple[list[Seen], float]:
    """What may be found: all before, all after, and for personalizing what was added, with the head not fitted yet."""
    import time

    again(start, profile)
    allowed = [what_is_in(profile, features)]
    if arguments[0] == "personalize":
        Personalizer(Bundle.open(BUNDLE), profile).add(Path(str(arguments[2])))
        allowed.append(what_is_in(profile, features))
        again(start, profile)
    began = time.monotonic()
    assert server.run(*arguments) == 0
    seconds = time.monotonic() - began
    allowed.append(what_is_in(profile, features))
    assert len(set(allowed)) == len(allowed)
    return allowed, seconds


def again(start: Path, profile: Path) -> None:
    shutil.rmtree(profile, ignore_errors=True)
    shutil.copytree(start / "profile", profile)


def finish(profile: Path) -> None:
    """Somebody opens it."""
    assert Personalizer(Bundle.open(BUNDLE), profile).predict([]) == []


def nothing_is_left_over(folder: Path) -> None:
    profile = find_profile(folder, Bundle.open(BUNDLE).manifest)
    assert isinstance(profile, Profile)
    state = profile.state
    expected = {"profile.json", "lock", state.journal, "heads", "memory", "kept"}
    assert {path.name for path in folder.iterdir()} == expected
    assert {path.name for path in (folder / "heads").iterdir()} == {entry.file for entry in state.heads}
    assert {path.name for path in (folder / "memory").iterdir()} == {entry.file for entry in state.memory}
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))
