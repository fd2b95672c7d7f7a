"""The profile folder: read as hostile, changed as a whole or not at all, by one process at a time."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import load, save

from fbkit.device_runtime.manifest import read_manifest
from fbkit.device_runtime.profile import Limits, Profile, changing_profile, find_profile
from fbkit.device_runtime.profile.memory import Memory, as_stored, memory_from_bytes
from fbkit.device_runtime.profile.state import read_state
from fbkit.device_runtime.tensors import Float
from fbkit.errors import UserError
from fbkit.files import sha256_bytes
from tests.conftest import Outcome
from tests.device_runtime.conftest import BUNDLE, snapshot
from tests.device_runtime.small_profile import (
    MANIFEST,
    RECIPE,
    SHIPPED,
    WIDTH,
    digest_of,
    features_of,
    head_of,
    remember,
    reopened,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile in which no field is empty: two heads, two files of memory, limits, and a head yet to be fitted."""
    folder = tmp_path_factory.mktemp("profiles") / "whole"
    with changing_profile(folder, MANIFEST) as profile:
        profile.set_limits(Limits(1000, 10**6), keep_pictures=True)
        remember(profile, {1: 0, 2: 1, 3: 2})
        profile.take_into_use(head_of(profile), RECIPE, {})
        remember(profile, {4: 3}, ("hat",))
        profile.take_into_use(head_of(profile), RECIPE, {})
    state = read_state(folder)
    assert len(state.heads) == len(state.memory) == 2
    value = {**state.to_json(), "refit": RECIPE}
    (folder / "profile.json").write_text(json.dumps(value))
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """One that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "profile"))


# What no fbkit writes there, for every key of profile.json.
NO_TEXT: list[Any] = [None, 1, True, [], {}, "", "a\nb", "x" * 2000]
NO_COUNT: list[Any] = [None, True, "1", 1.5, -1, 10**400, [], {}]
NO_OBJECT: list[Any] = [None, 1, "a", [], True]
NO_LIST_OF_OBJECTS: list[Any] = [None, 1, "a", {}, [1], [[]], [None], [{}] * 1001]
NO_FILE: list[Any] = [*NO_TEXT, "../../etc/passwd", "1.safetensors", "0001.safetensors/..", "0001.txt", "head"]
NO_DIGEST: list[Any] = [*NO_TEXT, "0" * 63, "G" * 64, "A" * 64]
ABSURD: dict[str, list[Any]] = {
    "schema": [None, 1, [], "fbkit.bundle"],
    "version": [*NO_COUNT, 0],
    "bundle": NO_TEXT,
    "classes": [None, "abc", {}, [], ["a"], ["a", "a"], ["a", ""], ["a", 1], ["a", "../b"], ["a", ".b"], ["a", "b\n"]],
    "heads": NO_LIST_OF_OBJECTS,
    "heads.0.file": [*NO_FILE, "0001.jsonl"],
    "heads.0.sha256": NO_DIGEST,
    "heads.0.classes": [*NO_COUNT, 0, 1, 10**6, SHIPPED + 2],
    "heads.0.seen": [*NO_COUNT, 0],
    "heads.0.pictures": [*NO_COUNT, 0],
    "heads.0.recipe": NO_OBJECT,
    "in_use": [1, True, [], "", "../0001.safetensors", "9999.safetensors"],
    "memory": NO_LIST_OF_OBJECTS,
    "memory.0.file": [*NO_FILE, "0001.jsonl"],
    "memory.0.sha256": NO_DIGEST,
    "memory.0.pictures": [*NO_COUNT, 0],
    "last_picture": NO_COUNT,
    "last_file": [*NO_COUNT, 10**9, 0, 1],
    "journal": [1, True, [], "", "../0001.jsonl", "0001.safetensors"],
    "journal_bytes": NO_COUNT,
    "limits": NO_OBJECT,
    "limits.pictures": [True, "1", 1.5, -1, 0, [], {}],
    "limits.bytes": [True, "1", 1.5, -1, 0, [], {}],
    "keep_pictures": [None, 0, 1, "true", []],
    "refit": [1, "a", [], True],
}


def place_of(value: Any, keys: list[str]) -> Any:
    for key in keys:
        value = value[int(key) if isinstance(value, list) else key]
    return value


def keys_of(value: Any, place: str = "") -> set[str]:
    """Every key in it, and in the first of each list; but not inside a recipe, which is read when it is run."""
    found = set()
    for key, inner in value.items():
        found.add(f"{place}{key}")
        if isinstance(inner, list) and inner and isinstance(inner[0], dict):
            found |= keys_of(inner[0], f"{place}{key}.0.")
        if isinstance(inner, dict) and key not in ("recipe", "refit"):
            found |= keys_of(inner, f"{place}{key}.")
    return found


def test_absurd_values_are_known_for_every_key(whole: Path) -> None:
    assert keys_of(json.loads((whole / "profile.json").read_text())) == set(ABSURD)


@pytest.mark.parametrize("place", ABSURD)
def test_a_key_that_is_missing_or_absurd_is_refused_by_name(whole: Path, tmp_path: Path, place: str) -> None:
    *before, key = place.split(".")
    value = json.loads((whole / "profile.json").read_text())
    name = re.escape(f"{tmp_path / 'profile.json'}: " + re.sub(r"\.(\d)", r"[\1]", place))
    for absurd in [*ABSURD[place], "missing"]:
        changed = deepcopy(value)
        if absurd == "missing":
            del place_of(changed, before)[key]
        else:
            place_of(changed, before)[key] = absurd
        (tmp_path / "profile.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=rf"^{name} \S"):
            find_profile(tmp_path, MANIFEST)


@pytest.mark.parametrize("key", ["heads", "memory"])
@pytest.mark.parametrize("change", [lambda entries: entries[::-1], lambda entries: [entries[0], *entries]])
def test_files_out_of_order_or_twice_are_refused(copy: Path, key: str, change: Callable[[list[Any]], Any]) -> None:
    value = json.loads((copy / "profile.json").read_text())
    value[key] = change(value[key])
    (copy / "profile.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=f"profile.json: {key} must"):
        find_profile(copy, MANIFEST)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not readable as JSON"),
        ("[]", "expected a JSON object, found list"),
        ('{"schema": "fbkit.profile", "schema": "fbkit.profile"}', "a key stands twice"),
        ('{"schema":' + '{"a":' * 50 + "1" + "}" * 51, "nested more than 32 deep"),
        (
            '{"schema": "fbkit.profile", "version": 1}',
            "version is 1, .* reads version 2; personalize into a new folder",
        ),
        ('{"schema": "fbkit.profile", "version": 3}', "version is 3, .* reads version 2; upgrade fbkit to open it"),
    ],
)
def test_what_is_no_profile_json_is_refused_in_a_line(copy: Path, text: str, said: str) -> None:
    (copy / "profile.json").write_text(text)
    for find in (find_profile, lambda *given: changing_profile(*given).__enter__()):
        with pytest.raises(UserError, match=rf"^{copy / 'profile.json'}: .*{said}"):
            find(copy, MANIFEST)


def test_profile_json_must_be_a_plain_file(copy: Path) -> None:
    """A pipe would be waited for, for ever; a link would lead out of the folder."""
    path = copy / "profile.json"
    path.rename(copy.parent / "elsewhere")
    path.symlink_to(copy.parent / "elsewhere")
    with pytest.raises(UserError, match=r"profile.json: not a plain file"):
        find_profile(copy, MANIFEST)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"profile.json: not a plain file"):
        find_profile(copy, MANIFEST)


def test_a_profile_of_another_bundle_is_recognised(copy: Path) -> None:
    other = replace(MANIFEST, body="another.onnx")
    with pytest.raises(
        UserError, match=rf"^{copy}: .* made with another bundle; give the bundle it was made with, or "
    ):
        find_profile(copy, other)
    assert find_profile(copy, other, other_bundle=True)
    value = json.loads((copy / "profile.json").read_text())
    value["classes"][:2] = value["classes"][1::-1]
    (copy / "profile.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"profile.json: its first classes are not the bundle's"):
        find_profile(copy, MANIFEST)


# Files of memory.


@st.composite
def features(draw: st.DrawFn) -> Float:
    """float32 [N, F], rows of any size up to 1e30, and what is far smaller in the same row."""
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    values = st.floats(-1, 1, width=32) | st.sampled_from([0.0, 1.0, -1.0, 0.5, 0.99999, 1e-5, 6e-8, 0.49999])
    sizes = draw(arrays.arrays(np.float64, rows, elements=st.floats(-30, 30)))
    mantissas = draw(arrays.arrays(np.float64, (rows, width), elements=values))
    return (mantissas * 10.0 ** sizes[:, None]).astype(np.float32)


@settings(max_examples=200, deadline=None)
@given(features())
def test_features_keep_eleven_bits_and_are_rounded_only_once(given_features: Float) -> None:
    stored = as_stored(given_features)
    largest = np.maximum(np.abs(given_features).max(1, keepdims=True), 2.0**-100)  # no scale is below that
    assert (np.abs(stored - given_features.astype(np.float64)) <= largest * 2.0**-11).all()
    assert as_stored(stored).tobytes() == stored.tobytes()
    memory = memory_of(stored)
    data = memory.to_bytes()
    read = memory_from_bytes(data, stored.shape[1], 3, "file")
    for name, value in asdict(memory).items():
        found = getattr(read, name)
        assert (found.dtype, found.tobytes()) == (value.dtype, value.tobytes())
    assert read.to_bytes() == data


def memory_of(rows: Float) -> Memory:
    count = len(rows)
    digests = np.array([list(bytes.fromhex(digest_of(picture))) for picture in range(count)], np.uint8)
    return Memory(5 + 2 * np.arange(count), digests, np.arange(count) % 3, 1e9 + np.arange(count) / 7, rows)


def doubled(tensors: dict[str, Any]) -> None:
    tensors["digests"][1] = tensors["digests"][0]


def out_of_order(tensors: dict[str, Any]) -> None:
    tensors["numbers"] = tensors["numbers"][::-1].copy()


def number_zero(tensors: dict[str, Any]) -> None:
    tensors["numbers"] -= 5


def label_above(tensors: dict[str, Any]) -> None:
    tensors["labels"][2] = 3


def label_below(tensors: dict[str, Any]) -> None:
    tensors["labels"][0] = -1


def overflowing(tensors: dict[str, Any]) -> None:
    tensors["features"][:], tensors["scales"][:] = 60000, 1e38


def not_a_number(tensors: dict[str, Any]) -> None:
    tensors["times"][0] = math.nan


def a_row_short(tensors: dict[str, Any]) -> None:
    tensors["times"] = tensors["times"][1:]


def another_dtype(tensors: dict[str, Any]) -> None:
    tensors["features"] = tensors["features"].astype(np.float32)


def another_width(tensors: dict[str, Any]) -> None:
    tensors["features"] = tensors["features"][:, 1:]


def one_missing(tensors: dict[str, Any]) -> None:
    del tensors["scales"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (doubled, "holds a picture twice"),
        (out_of_order, "numbers must be above 0 and rise"),
        (number_zero, "numbers must be above 0 and rise"),
        (label_above, "labels must be from 0 to 2"),
        (label_below, "labels must be from 0 to 2"),
        (overflowing, "features must be finite"),
        (not_a_number, "times holds values that are not finite"),
        (a_row_short, "its tensors have different numbers of rows"),
        (another_dtype, "features is float32"),
        (another_width, r"features is float16 \[4, 5\]"),
        (one_missing, "holds .* expected"),
    ],
)
def test_memory_that_no_fbkit_writes_is_refused_by_name(damage: Callable[[dict[str, Any]], None], said: str) -> None:
    tensors = load(memory_of(np.ones((4, WIDTH), np.float32)).to_bytes())
    memory_from_bytes(save(tensors), WIDTH, 3, "0007.safetensors")
    damage(tensors)
    with pytest.raises(UserError, match=f"^0007.safetensors: {said}"):
        memory_from_bytes(save(tensors), WIDTH, 3, "0007.safetensors")
    with pytest.raises(UserError, match=r"^0007.safetensors: not a whole safetensors file"):
        memory_from_bytes(save(tensors)[:-5], WIDTH, 3, "0007.safetensors")


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def link(path: Path) -> None:
    path.rename(path.parent.parent.parent / path.name)
    path.symlink_to(path.parent.parent.parent / path.name)


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lose, "cannot be read (No such file"), (cut, "was altered"), (flip, "was altered"), (link, "not a plain file")],
)
def test_a_file_that_was_lost_or_altered_is_told_with_advice(
    copy: Path, damage: Callable[[Path], None], said: str
) -> None:
    profile = reopened(copy)
    read: dict[Path, Callable[[], object]] = {
        copy / "heads" / str(profile.state.in_use): profile.head,
        copy / "memory" / profile.state.memory[0].file: profile.memory,
        copy / "kept" / digest_of(2): lambda: profile.kept_picture(digest_of(2)),
    }
    for path, reads in read.items():
        reads()
        damage(path)
        with pytest.raises(UserError, match=rf"^{path}: {re.escape(said)}.*; restore the profile from a copy, or "):
            reads()


def test_a_picture_in_two_files_is_refused(copy: Path) -> None:
    """Each file is sound, and profile.json says that it is: but they cannot both be true."""
    value = read_state(copy).to_json()
    path = copy / "memory" / value["memory"][1]["file"]
    memory = reopened(copy).memory()
    others = np.vstack([memory.digests, 255 - memory.digests])
    for numbers, digests, said in (
        ([3], [5], f"{path}: numbers must rise from file to file"),
        ([4], [0], f"{copy / 'memory'}: two files hold the same picture"),
        ([4, 5], [4, 5], f"{path}: holds 2 pictures, profile.json says 1"),
    ):
        part = memory.where(memory.numbers <= len(numbers))
        data = replace(part, numbers=np.array(numbers), digests=others[digests]).to_bytes()
        path.write_bytes(data)
        value["memory"][1]["sha256"] = sha256_bytes(data)
        (copy / "profile.json").write_text(json.dumps(value))
        with pytest.raises(UserError, match=f"^{said}"):
            reopened(copy).memory()


# The journal.


def test_the_journal_only_grows_and_half_a_line_behind_its_end_has_no_meaning(tmp_path: Path) -> None:
    with changing_profile(tmp_path / "p", MANIFEST) as profile:
        remember(profile, {1: 0})
        before = profile.journal()
        path = profile.folder / str(profile.state.journal)
        data = path.read_bytes()
        path.write_bytes(data + b'{"time": 1, "event": "half a li' + b"n" * 500)
        assert reopened(profile.folder).journal() == before
        profile.add_classes(["hat"])
        assert path.read_bytes().startswith(data + b'{"time":')
        assert [entry["event"] for entry in reopened(profile.folder).journal()] == ["add", "classes"]
        assert path.stat().st_size == profile.state.journal_bytes


def test_a_journal_of_a_megabyte_is_written_anew_with_its_last_entries(tmp_path: Path) -> None:
    with changing_profile(tmp_path / "p", MANIFEST) as profile:
        remember(profile, {1: 0})
    first = journal_with(
        profile.folder, [b'{"time":1,"event":"fit","number":%d,"long":"%s"}' % (n, b"x" * 800) for n in range(1500)]
    )
    with changing_profile(tmp_path / "p", MANIFEST) as profile:
        profile.add_classes(["hat"])
        second = profile.folder / str(profile.state.journal)
        assert second != first
        assert not first.exists()
        found = [entry.get("number") for entry in reopened(profile.folder).journal()]
        assert found == [*range(500, 1500), None]
        profile.add_classes(["scarf"])
        assert profile.folder / str(profile.state.journal) == second


def journal_with(folder: Path, lines: list[bytes]) -> Path:
    """Put lines behind those of the journal, and let them count."""
    state = read_state(folder)
    path = folder / str(state.journal)
    data = path.read_bytes() + b"".join(line + b"\n" for line in lines)
    path.write_bytes(data)
    (folder / "profile.json").write_text(json.dumps({**state.to_json(), "journal_bytes": len(data)}))
    return path


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event":"fit"}',
        b'{"time":"now","event":"fit"}',
        b'{"time":1e300,"event":"fit"}',
        b'{"time":1,"event":["fit"]}',
        b'{"time":1,"event":"fit","head":["0001.safetensors"]}',
        b'{"time":1,"event":"add","first":"1","last":2}',
        b'{"time":1,"event":"add","last":2}',
        b'{"time":1,"event":"classes","added":3}',
        b'{"time":1,"event":"classes"}',
    ],
)
def test_a_journal_that_was_altered_is_refused_by_name(tmp_path: Path, line: bytes) -> None:
    with changing_profile(tmp_path / "p", MANIFEST) as profile:
        remember(profile, {1: 0, 2: 1})
    path = journal_with(profile.folder, [line])
    with pytest.raises(UserError, match=rf"^{path}: (line 2: \w+ (is missing|must)|not readable|expected a|nested)"):
        reopened(profile.folder).journal()


def test_a_journal_that_was_cut_short_is_told_and_never_patched(copy: Path) -> None:
    """Written behind its end it would have a hole of zeros."""
    path = copy / str(read_state(copy).journal)
    path.write_bytes(path.read_bytes()[:-5])
    before = snapshot(copy)
    with pytest.raises(UserError, match=rf"^{path}: is shorter than profile.json says"):
        reopened(copy).journal()
    with (
        pytest.raises(UserError, match=rf"^{path}: is shorter than profile.json says"),
        changing_profile(copy, MANIFEST) as profile,
    ):
        profile.add_classes(["scarf"])
    assert snapshot(copy) == before


def test_pictures_that_come_one_by_one_lie_in_few_files(tmp_path: Path) -> None:
    with changing_profile(tmp_path / "p", MANIFEST) as profile:
        for picture in range(70):
            remember(profile, {picture: 0})
            assert len(profile.state.memory) <= math.log2(picture + 1) + 1
        assert [digest_of(picture) for picture in range(70)] == list(profile.memory().rows_by_digest())


def test_a_move_to_another_bundle_goes_by_the_names_of_classes(tmp_path: Path) -> None:
    """The other bundle has other features, and two classes in another order; one of the first bundle's it lacks."""
    folder, names = tmp_path / "p", MANIFEST.classes
    with changing_profile(folder, MANIFEST) as profile:
        profile.add_classes(["unused"])
        remember(profile, {1: 0, 2: 1, 3: 2, 4: SHIPPED + 1}, ("hat",))
        profile.set_limits(Limits(bytes=300), keep_pictures=True)
        profile.take_into_use(head_of(profile), RECIPE, {})
    other = replace(MANIFEST, features=2 * WIDTH, classes=(names[1], names[0], "bonnet", *names[4:]))
    twice = np.stack([np.tile(features_of(picture), 2) for picture in (1, 2, 3, 4)])
    with changing_profile(folder, other, other_bundle=True) as profile:
        profile.move(twice, {"solver": "other"})
    moved = reopened(folder, other)
    assert moved.classes == (*other.classes, names[2], "hat")
    memory, state = moved.memory(), moved.state
    assert [moved.classes[label] for label in memory.labels] == [names[0], names[2], "hat"], "more have no room there"
    assert np.array_equal(memory.features, twice[[0, 2, 3]])
    assert memory.numbers.tolist() == [1, 3, 4]
    assert (state.heads, state.in_use, state.refit) == ((), None, {"solver": "other"})
    assert moved.journal()[-1]["event"] == "another bundle"
    with pytest.raises(UserError, match="made with another bundle"):
        find_profile(folder, MANIFEST)


# More than one process, more than one owner.


def test_the_head_before_is_found_by_its_place_however_long_its_number(copy: Path) -> None:
    value = json.loads((copy / "profile.json").read_text())
    (copy / "profile.json").write_text(json.dumps({**value, "last_file": 9998}))
    with changing_profile(copy, MANIFEST) as profile:
        before = profile.state.in_use
        for file in ("9999.safetensors", "10000.safetensors"):
            profile.take_into_use(head_of(profile), RECIPE, {})
            assert reopened(copy).state.in_use == file
        assert [profile.roll_back(), profile.roll_back()] == ["9999.safetensors", before]


def test_a_reader_beside_a_writer_reads_the_old_or_the_new(whole: Path, tmp_path: Path) -> None:
    """What it has just read in profile.json is deleted before it comes to read it."""

    def forget_the_first(profile: Profile) -> None:
        profile.forget(profile.memory().numbers == 1, RECIPE)

    def forget_the_last(profile: Profile) -> None:
        profile.roll_back()
        profile.forget(profile.memory().numbers == 4, RECIPE)

    def fit_again(profile: Profile) -> None:
        profile.take_into_use(head_of(profile, 9), RECIPE, {})
        forget_the_first(profile)
        profile.take_into_use(head_of(profile, 8), RECIPE, {})

    for place, change in enumerate((forget_the_first, forget_the_last, fit_again)):
        folder = Path(shutil.copytree(whole, tmp_path / str(place)))
        readers = [reopened(folder) for _ in range(3)]
        with changing_profile(folder, MANIFEST) as writer:
            change(writer)
            expected = writer.head()
        head = readers[0].head()
        assert (head and head.to_bytes()) == (expected and expected.to_bytes())
        assert len(readers[1].memory()) == 3
        assert readers[2].journal()[-1]["event"] in ("remove", "roll back", "fit")


def test_readers_beside_a_busy_writer_never_see_a_mixture(tmp_path: Path) -> None:
    folder, done = tmp_path / "profile", threading.Event()
    with changing_profile(folder, MANIFEST) as profile:
        remember(profile, {0: 0})

    def read() -> int:
        count = 0
        while not done.is_set():
            profile = reopened(folder)
            memory = profile.memory()
            for digest, row in memory.rows_by_digest().items():
                assert np.array_equal(memory.features[row], by_digest[digest])
            head = profile.head()
            assert head is None or head.to_bytes() in heads
            profile.journal()
            count += 1
        return count

    by_digest = {digest_of(picture): features_of(picture) for picture in range(16)}
    with changing_profile(folder, MANIFEST) as profile:
        heads = {head_of(profile, seed).to_bytes() for seed in range(12)}
    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for turn in range(12):
                with changing_profile(folder, MANIFEST) as profile:
                    remember(profile, {turn % 16: turn % 3, (turn + 5) % 16: turn % 4})
                    profile.take_into_use(head_of(profile, turn), RECIPE, {})
                    if turn % 2:
                        profile.forget(profile.memory().labels == turn % 3, RECIPE)
        finally:
            done.set()
        assert all(reader.result() for reader in readers)


def test_a_second_process_is_told_in_a_line(tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    folder = tmp_path / "profile"
    with changing_profile(folder, read_manifest(BUNDLE)):
        before = snapshot(folder)
        outcome = fbkit("profile", "add-class", BUNDLE, folder, "hat")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err == f"fbkit: {folder}: another process is changing this profile; try again\n"
        assert snapshot(folder) == before
    assert fbkit("profile", "add-class", BUNDLE, folder, "hat").code == 0


@pytest.mark.parametrize("there", ["diary.txt", "heads/../.hidden", "0001.safetensors", "profile.json.txt"])
def test_somebody_elses_folder_is_left_alone(tmp_path: Path, there: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o755)
    path = folder / Path(there).name
    path.write_text("mine")
    with (
        pytest.raises(UserError, match=rf"^{folder}: exists and is not a profile; choose another folder"),
        changing_profile(folder, MANIFEST),
    ):
        pass
    assert list(folder.iterdir()) == [path]
    assert folder.stat().st_mode & 0o777 == 0o755
    with pytest.raises(UserError, match="exists and is not a profile"):
        find_profile(path, MANIFEST)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=rf"^{tmp_path / 'file' / 'profile'}: cannot be made \(Not a directory\)"),
        changing_profile(tmp_path / "file" / "profile", MANIFEST),
    ):
        pass


def test_a_crash_while_a_profile_is_made_does_not_block_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    (folder / "heads").mkdir(parents=True)
    (folder / "lock").touch()
    (folder / ".profile.json.abcd.partial").write_bytes(b"{")
    assert find_profile(folder, MANIFEST) is None
    with changing_profile(folder, MANIFEST) as profile:
        remember(profile, {1: 0})
    assert len(reopened(folder).memory()) == 1
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("limits", [{"pictures": 0}, {"pictures": -1}, {"bytes": 0}])
def test_limits_that_nothing_fits_into_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Limits(**limits)
