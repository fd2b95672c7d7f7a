"""The cache that pictures are decoded into: made once, believed only if whole."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.train.sources import cache, load_dataset
from tests.train import processes
from tests.train.picture_folders import Bytes, by_hand, class_root, files, multiset, recipe

pytestmark = pytest.mark.usefixtures("cache_home")


def test_pictures_are_decoded_once_and_mapped(tmp_path: Path, decoded: list[str]) -> None:
    root = class_root(tmp_path / "data")
    first = load_dataset(recipe(root), seed=1)
    assert len(decoded) == 16
    for path in files(root, "*/*"):
        os.utime(path, (1, 1))
    second = load_dataset(recipe(root), seed=1)
    load_dataset(recipe(root, test_fraction=0.4), seed=2)
    root.rename(tmp_path / "moved")
    moved = load_dataset(recipe(tmp_path / "moved"), seed=1)
    assert len(decoded) == 16
    assert torch.equal(first.train.images, second.train.images)
    assert first.fingerprint == second.fingerprint == moved.fingerprint
    with Path("/proc/self/maps").open() if sys.platform == "linux" else io.StringIO("images.npy") as maps:
        assert "images.npy" in maps.read()


def changed_pixels(root: Path) -> None:
    Image.new("RGB", (20, 20), "red").save(root / "a" / "000.png")


def renamed(root: Path) -> None:
    (root / "a" / "000.png").rename(root / "a" / "000a.png")


def removed(root: Path) -> None:
    (root / "a" / "000.png").unlink()


@pytest.mark.parametrize("change", [changed_pixels, renamed, removed])
def test_a_changed_picture_is_seen(tmp_path: Path, decoded: list[str], change: Callable[[Path], None]) -> None:
    root = class_root(tmp_path / "data")
    before = load_dataset(recipe(root))
    change(root)
    decoded.clear()
    after = load_dataset(recipe(root))
    assert decoded
    assert after.fingerprint != before.fingerprint
    assert multiset(torch.cat([after.train.images, after.test.images])) == multiset(by_hand(files(root, "*/*")))


def cut_short(entry: Path) -> None:
    os.truncate(entry / "images.npy", (entry / "images.npy").stat().st_size - 1)


def emptied(entry: Path) -> None:
    (entry / "sums.npy").write_bytes(b"")


def reshaped(entry: Path) -> None:
    np.save(entry / "images.npy", np.zeros((16, 16, 16, 3), np.uint8))


def zeroed(entry: Path) -> None:
    np.save(entry / "images.npy", np.zeros_like(np.load(entry / "images.npy")))


def not_json(entry: Path) -> None:
    (entry / "index.json").write_text("{")


def wrong_json(entry: Path) -> None:
    (entry / "index.json").write_text(json.dumps({"broken": [99], "reason": ""}))


def missing(entry: Path) -> None:
    (entry / "index.json").unlink()


def a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("what?")


@pytest.mark.parametrize("damage", [cut_short, emptied, reshaped, zeroed, not_json, wrong_json, missing, a_file])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, cache_home: Path, damage: Callable[[Path], None]) -> None:
    root = class_root(tmp_path / "data")
    expected = load_dataset(recipe(root)).train.images.clone()
    entries = list(cache_home.iterdir())
    for entry in entries:
        damage(entry)
    assert torch.equal(load_dataset(recipe(root)).train.images, expected)
    assert sorted(cache_home.iterdir()) == sorted(entries)


def test_processes_that_want_the_same_pictures_take_turns(tmp_path: Path, cache_home: Path) -> None:
    root = class_root(tmp_path / "data")
    code = f"""
import sys, time
from pathlib import Path
from fbkit.console import Reporter
from fbkit.train.sources import folder_dataset, load_dataset
from tests.train.picture_folders import recipe
decode, decoded = folder_dataset.decode_picture, []
def slowly(*arguments):
    time.sleep(0.1)
    decoded.append(arguments)
    return decode(*arguments)
folder_dataset.decode_picture = slowly
Path(sys.argv[1]).touch()
while not Path({str(tmp_path / "go")!r}).exists():
    time.sleep(0.001)
data = load_dataset(recipe(Path({str(root)!r})), 1, Reporter())
print(len(decoded), int(data.train.images.sum()))
"""
    ready = [tmp_path / f"ready-{number}" for number in range(3)]
    started = [processes.start(sys.executable, "-c", code, path, cwd=Path(__file__).parents[2]) for path in ready]
    while not all(path.exists() for path in ready):
        assert all(process.poll() is None for process in started), [process.communicate() for process in started]
        time.sleep(0.01)
    (tmp_path / "go").touch()
    outputs = [process.communicate(timeout=60) for process in started]
    counts, sums = zip(*(out.split() for out, _ in outputs), strict=True)
    assert sorted(counts) == ["0", "0", "16"], outputs
    assert len(set(sums)) == 1
    said = "reading pictures: another process does it, waiting for it"
    assert sum(said in errors for _, errors in outputs) == 2
    assert len(list(cache_home.iterdir())) == 2  # as read, and as arranged for this seed; no lock is left


def test_a_lock_that_a_killed_process_left_is_no_obstacle(cache_home: Path) -> None:
    cache_home.mkdir(parents=True)
    (cache_home / ".key.lock").touch()
    found = cache.cached_pictures(
        "key", 1, (1, 2, 2), lambda row: np.full((1, 2, 2), row, np.uint8), Reporter(quiet=True), "x"
    )
    assert len(found.images) == 1
    assert [path.name for path in cache_home.iterdir()] == ["key"]


def test_without_locks_who_is_late_uses_what_the_winner_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)

    def picture(row: int) -> Bytes:
        return np.full((1, 2, 2), row, np.uint8)

    def overtaken(row: int) -> Bytes:
        cache.cached_pictures("key", 3, (1, 2, 2), picture, Reporter(quiet=True), "x")
        return np.full((1, 2, 2), 9 + row, np.uint8)

    found = cache.cached_pictures("key", 3, (1, 2, 2), overtaken, Reporter(quiet=True), "x")
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert [path.name for path in cache.cache_folder().iterdir()] == ["key"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    root = class_root(tmp_path / "data")
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"cache/fbkit/pictures: the cache of decoded pictures .*set XDG_CACHE_HOME"):
        load_dataset(recipe(root))


def test_a_cache_without_a_home_folder_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_root(tmp_path / "data")
    for asked in ("~no-such-user/cache", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", asked)
        monkeypatch.setenv("HOME", "")
        monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where the system knows no such user
        with pytest.raises(UserError, match=f"{asked}: no home folder is known.*set XDG_CACHE_HOME"):
            load_dataset(recipe(root))


def test_a_lack_of_memory_is_not_kept_against_a_picture(
    tmp_path: Path, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = class_root(tmp_path / "data")
    opened = Image.open

    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(MemoryError):
        load_dataset(recipe(root, skip_broken=True))
    assert not list(cache_home.iterdir())
    monkeypatch.setattr(Image, "open", opened)
    assert len(load_dataset(recipe(root)).train) == 13
