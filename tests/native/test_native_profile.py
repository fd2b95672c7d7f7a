"""One profile, two runtimes: either continues the other's work, and a crash leaves what the format says."""

from __future__ import annotations

import fcntl
import json
import resource
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from fbkit.device_runtime import Bundle, Personalizer
from fbkit.device_runtime.demo import FOLDER as DEMO
from fbkit.device_runtime.profile import Limits, changing_profile
from fbkit.files import sha256_file, write_json
from tests.native.agreement import TOLERANCE, assert_same_profile, difference, opened
from tests.native.conftest import Native

PICTURES = DEMO / "pictures"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The training pictures, dealt into three folders."""
    folder = tmp_path_factory.mktemp("parts")
    for place, path in enumerate(sorted((PICTURES / "train").glob("*/*"))):
        target = folder / str(place % 3) / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return sorted(folder.iterdir())


def test_either_continues_the_others_work(native: Native, pte_bundle: Path, parts: list[Path], tmp_path: Path) -> None:
    bundle, mixed, alone = Bundle.open(pte_bundle), tmp_path / "mixed", tmp_path / "alone"
    for part in parts:
        Personalizer(bundle, alone).fit(part)
    first = native.json("personalize", pte_bundle, parts[0], "--profile", mixed)
    Personalizer(bundle, mixed).fit(parts[1])
    last = native.json("personalize", pte_bundle, parts[2], "--profile", mixed)
    assert first["computed"] + last["computed"] < sum(last["pictures"].values()) == 20
    assert_same_profile(mixed, alone, bundle)
    assert Personalizer(bundle, mixed).roll_back() == opened(mixed, bundle).state.heads[-2].file
    again = native.json("personalize", pte_bundle, PICTURES / "train", "--profile", mixed)
    assert again["computed"] == 0
    assert len(opened(mixed, bundle).state.heads) == 3
    assert "rolled" not in json.dumps(Personalizer(bundle, mixed).remove(label="sneaker").__dict__)
    assert native.json("personalize", pte_bundle, parts[0], "--profile", mixed)["computed"] == len(
        list((parts[0] / "sneaker").iterdir())
    )


def test_limits_and_kept_pictures_count_here_too(
    native: Native, pte_bundle: Path, parts: list[Path], tmp_path: Path
) -> None:
    bundle = Bundle.open(pte_bundle)
    for name in ("here", "there"):
        Personalizer(bundle, tmp_path / name).set_limits(Limits(pictures=9), keep_pictures=True)
    for part in parts:
        native.json("personalize", pte_bundle, part, "--profile", tmp_path / "here")
        Personalizer(bundle, tmp_path / "there").fit(part)
    assert_same_profile(tmp_path / "here", tmp_path / "there", bundle)
    kept = [sorted(path.name for path in (tmp_path / name / "kept").iterdir()) for name in ("here", "there")]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 9
    assert all(sha256_file(tmp_path / "here" / "kept" / name) == name for name in kept[0])


def test_a_head_that_has_yet_to_be_fitted_is_fitted_by_whoever_opens_it(
    native: Native, pte_bundle: Path, tmp_path: Path
) -> None:
    """A crash between forgetting and fitting; a reader finishes the work."""
    bundle = Bundle.open(pte_bundle)
    Personalizer(bundle, tmp_path / "there").fit(PICTURES / "train")
    with changing_profile(tmp_path / "there", bundle.manifest) as profile:
        (entry,) = profile.state.heads
        profile.forget(np.arange(len(profile.memory())) == 0, entry.recipe)
    (tmp_path / "there" / "memory" / ".0001.safetensors.abc.partial").write_bytes(b"left by a crash")
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    picture = next((PICTURES / "test" / "sneaker").iterdir())
    native.json("predict", pte_bundle, picture, "--profile", tmp_path / "here")
    Personalizer(bundle, tmp_path / "there").predict(picture)
    assert opened(tmp_path / "here", bundle).state.refit is None
    assert not list((tmp_path / "here" / "memory").glob(".*"))
    assert_same_profile(tmp_path / "here", tmp_path / "there", bundle)


def test_a_long_journal_is_cut(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    bundle, folder = Bundle.open(pte_bundle), tmp_path / "profile"
    Personalizer(bundle, folder).fit(PICTURES / "train")
    state = opened(folder, bundle).state
    assert state.journal
    line = json.dumps({"time": 1.5, "event": "limits", "pictures": None, "bytes": None, "x": "y" * 900}) + "\n"
    (folder / state.journal).write_text(line * 1200 + "left by a crash")
    longer = replace(state, journal_bytes=len(line) * 1200)
    write_json(folder / "profile.json", {"schema": "fbkit.profile", "version": 2, **asdict(longer)}, private=True)
    native.json("personalize", pte_bundle, PICTURES / "train", "--profile", folder)
    journal = opened(folder, bundle).journal()
    assert len(journal) == 1001
    assert journal[-1]["event"] == "fit"
    assert not (folder / state.journal).exists()


def test_one_at_a_time(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    given = ("personalize", pte_bundle, PICTURES / "train", "--profile", folder)
    native.json(*given)
    with (folder / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process is changing this profile" in native.run(*given).err
        assert (
            native.run("predict", pte_bundle, *(PICTURES / "test" / "sneaker").iterdir(), "--profile", folder).code == 0
        )


def meaning(folder: Path, bundle: Bundle) -> tuple[object, ...]:
    """What a profile says, without what differs from run to run."""
    profile = opened(folder, bundle)
    head = profile.head()
    norm = None if head is None else round(float(np.abs(head.weight).sum()), 2)
    memory = profile.memory()
    return len(memory), len(profile.state.heads), norm, tuple(entry["event"] for entry in profile.journal())


def test_killed_at_any_moment_it_has_happened_or_not(
    native: Native, pte_bundle: Path, parts: list[Path], tmp_path: Path, full: bool
) -> None:
    bundle, start, folder = Bundle.open(pte_bundle), tmp_path / "start", tmp_path / "profile"
    native.json("personalize", pte_bundle, parts[0], "--profile", start)
    given = ("personalize", pte_bundle, parts[1], "--profile", folder)
    shutil.copytree(start, folder)
    began = time.monotonic()
    native.json(*given)
    seconds, after = time.monotonic() - began, meaning(folder, bundle)
    before = meaning(start, bundle)
    added = (after[0], *before[1:3], (*before[3], "add"))  # type: ignore[misc]
    rng, killed = np.random.default_rng(0), 0
    for _ in range(200 if full else 20):
        shutil.rmtree(folder)
        shutil.copytree(start, folder)
        process = native.start(*given)
        time.sleep(float(rng.uniform(0, 1.1 * seconds)))
        process.kill()
        process.communicate()
        native.check()
        killed += process.returncode != 0
        assert Personalizer(bundle, folder).predict([]) == []  # somebody opens it
        assert meaning(folder, bundle) in (before, added, after)
        assert not [path for path in folder.rglob("*") if ".partial" in path.name]
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.rglob("*"))
    assert killed


def test_on_a_full_disk_it_says_so_and_has_happened_or_not(
    native: Native, pte_bundle: Path, parts: list[Path], tmp_path: Path
) -> None:
    bundle, start, folder = Bundle.open(pte_bundle), tmp_path / "start", tmp_path / "profile"
    native.json("personalize", pte_bundle, parts[0], "--profile", start)
    given = ("personalize", pte_bundle, parts[1], "--profile", folder)
    failed = 0
    shutil.copytree(start, folder)
    native.json(*given)
    after, before = meaning(folder, bundle), meaning(start, bundle)
    added = (after[0], *before[1:3], (*before[3], "add"))  # type: ignore[misc]
    sizes = {path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for limit in sorted({0, *(max(size - 1, 0) for size in sizes), *sizes}):
        shutil.rmtree(folder)
        shutil.copytree(start, folder)
        outcome = native.run(*given, preexec_fn=lambda most=limit: at_most(most))
        failed += outcome.code == 2
        assert outcome.code == 0 or "cannot be written" in outcome.err
        assert not [path for path in folder.rglob("*") if ".partial" in path.name]
        Personalizer(bundle, folder).predict([])
        assert meaning(folder, bundle) in (before, added, after)
    assert failed


def at_most(file_bytes: int) -> None:
    """Files of this process can be no longer; a write beyond fails, as Python does without SIGXFSZ."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


def test_features_are_as_python_rounds_them(native: Native, pte_bundle: Path, tmp_path: Path) -> None:
    """What the native runner stores is a fixed point of Python's rounding."""
    from fbkit.device_runtime.profile.memory import as_stored

    native.json("personalize", pte_bundle, PICTURES / "train", "--profile", tmp_path / "profile")
    bundle = Bundle.open(pte_bundle)
    memory = opened(tmp_path / "profile", bundle).memory()
    assert np.array_equal(as_stored(memory.features), memory.features)
    paths = sorted((PICTURES / "train").glob("*/*"))
    body = bundle.features([bundle.decode(path.read_bytes()) for path in paths])
    assert difference(memory.features, as_stored(body)) < TOLERANCE
