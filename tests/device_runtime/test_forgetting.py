"""The right to be forgotten: of a picture that was removed no byte is left, and no head that saw it."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fbkit.device_runtime import Bundle, Personalizer, Schedule
from fbkit.device_runtime.fitting import Recipe
from fbkit.device_runtime.profile import Limits, Profile, changing_profile
from fbkit.errors import UserError
from fbkit.files import sha256_file
from tests.conftest import Outcome
from tests.device_runtime.conftest import BUNDLE, PICTURES, opened, snapshot, some

DAY = 86400


@dataclass(frozen=True)
class Device:
    """A profile folder, and the personalizer that works on it."""

    folder: Path
    bundle: Bundle

    @property
    def personalizer(self) -> Personalizer:
        return Personalizer(self.bundle, self.folder)

    @property
    def profile(self) -> Profile:
        return opened(self.folder, self.bundle)

    def heads(self) -> list[str]:
        return [entry.file for entry in self.profile.state.heads]

    def head(self) -> bytes | None:
        """The head in use."""
        head = self.profile.head()
        return None if head is None else head.to_bytes()

    def traces(self, path: Path) -> set[str]:
        """What of a picture can be found in all bytes and names of all files."""
        digest = sha256_file(path)
        wanted = {
            "digest": bytes.fromhex(digest),
            "hexadecimal": digest.encode(),
            "features": stored_features(self.bundle, path),
            "name": path.name.encode(),
            "picture": path.read_bytes(),
        }
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        everything = b"\n".join(
            [str(file.relative_to(self.folder)).encode() + b"\n" + file.read_bytes() for file in files]
        )
        return {name for name, value in wanted.items() if value in everything}


def stored_features(bundle: Bundle, path: Path) -> bytes:
    """As a row of float16, divided by a power of two so that the largest is at most 1."""
    row = bundle.features([bundle.decode(path.read_bytes())])[0]
    scaled = row / 2.0 ** np.ceil(np.log2(np.abs(row).max()))
    return bytes(scaled.astype(np.float16).tobytes())


@pytest.fixture(scope="module")
def three_batches(demo: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile with a head after each; the pictures are kept."""
    device = Device(tmp_path_factory.mktemp("forgetting") / "profile", demo)
    device.personalizer.set_limits(Limits(), keep_pictures=True)
    for batch in BATCHES:
        add(device, batch)
        device.personalizer.fit(recipe=RECIPE)
    assert len(device.heads()) == 3
    return device.folder


@pytest.fixture
def device(three_batches: Path, demo: Bundle, tmp_path: Path) -> Device:
    return Device(Path(shutil.copytree(three_batches, tmp_path / "profile")), demo)


# Fitted with any pictures; these heads are so few pictures' that nobody judges them.
RECIPE = Recipe("exact", "keep", 2.0)
BATCHES = [
    [*some("sneaker")[:2], *some("t-shirt")[:1]],
    [*some("t-shirt")[1:2], *some("sneaker")[2:4]],
    [*some("t-shirt")[2:4], *some("sneaker")[4:5]],
]


def add(device: Device, paths: Sequence[Path], label: str | None = None) -> None:
    for name, together in itertools.groupby(paths, lambda path: label or path.parent.name):
        device.personalizer.add(list(together), name)


def fitted_alone(device: Device, tmp_path: Path, paths: Sequence[Path]) -> bytes | None:
    """The head of a device that never saw any other picture."""
    alone = Device(tmp_path / "alone", device.bundle)
    add(alone, paths)
    alone.personalizer.fit(recipe=RECIPE)
    return alone.head()


def flat(batches: Sequence[Sequence[Path]]) -> list[Path]:
    return [path for batch in batches for path in batch]


ALL = flat(BATCHES)


def in_python(device: Device, paths: list[Path]) -> object:
    return device.personalizer.remove(pictures=paths)


def as_arguments(_device: Device, paths: list[Path]) -> list[object]:
    return [argument for path in paths for argument in ("--picture", path)]


def by_number(device: Device, paths: list[Path]) -> list[object]:
    memory = device.profile.memory()
    rows = memory.rows_by_digest()
    numbers = [int(memory.numbers[rows[sha256_file(path)]]) for path in paths]
    return [argument for number in numbers for argument in ("--number", number)]


@pytest.mark.parametrize("how", [in_python, as_arguments, by_number])
@pytest.mark.parametrize(
    ("gone", "left_heads"), [([ALL[8]], 2), ([ALL[4]], 1), ([ALL[0]], 0), ([ALL[7], ALL[3], ALL[5]], 1)]
)
def test_no_byte_is_left_of_a_picture_and_no_head_that_saw_it(
    device: Device,
    tmp_path: Path,
    how: Callable[[Device, list[Path]], Any],
    gone: list[Path],
    left_heads: int,
    fbkit: Callable[..., Outcome],
) -> None:
    before = device.heads()
    for path in ALL:
        assert device.traces(path) == {"digest", "hexadecimal", "features", "picture"}
    said = how(device, gone)
    if how is not in_python:
        outcome = fbkit("profile", "remove", BUNDLE, device.folder, *said, "--json")
        assert outcome.code == 0, outcome.err
        result = json.loads(outcome.out)
        assert (result["forgotten"], result["left"]) == (len(gone), 9 - len(gone))
    for path in ALL:
        assert device.traces(path) == (set() if path in gone else {"digest", "hexadecimal", "features", "picture"})

    state = device.profile.state
    left = [path for path in ALL if path not in gone]
    assert device.heads()[:-1] == before[:left_heads], "older heads that never saw it stay"
    assert {file.name for file in (device.folder / "heads").iterdir()} == set(device.heads())
    assert state.in_use == device.heads()[-1]
    assert state.in_use > before[-1]
    assert device.head() == fitted_alone(device, tmp_path, left)

    for expected in [*reversed(before[:left_heads]), None]:
        assert device.personalizer.roll_back() == expected
    with pytest.raises(UserError, match="the shipped head is in use, there is none before it"):
        device.personalizer.roll_back()


def test_the_journal_no_longer_counts_it(device: Device) -> None:
    device.personalizer.remove(pictures=[ALL[0], ALL[5], ALL[6]])
    entries = device.profile.journal()
    added = [entry for entry in entries if entry["event"] == "add"]
    assert [(entry["first"], entry["last"]) for entry in added] == [(n, n) for n in (2, 3, 4, 5, 8, 9)]
    left = [path for path in ALL if path not in (ALL[0], ALL[5], ALL[6])]
    assert [entry["pictures"] for entry in added] == [{path.parent.name: 1} for path in left]
    fits = [entry["head"] for entry in entries if entry["event"] == "fit"]
    assert fits == device.heads()
    assert [entry["event"] for entry in entries][-2:] == ["remove", "fit"]
    assert entries[-2]["pictures"] == 3


def test_an_older_head_that_never_saw_it_stays_in_use(device: Device) -> None:
    first, second, _ = device.heads()
    device.personalizer.roll_back()
    head = device.head()
    device.personalizer.remove(pictures=[ALL[8]])
    assert device.heads() == [first, second]
    assert device.profile.state.in_use == second
    assert device.head() == head
    assert device.personalizer.roll_back() == first


@pytest.mark.parametrize("on_the_command_line", [False, True])
def test_a_class_is_forgotten(device: Device, on_the_command_line: bool, fbkit: Callable[..., Outcome]) -> None:
    if on_the_command_line:
        outcome = fbkit("profile", "remove", BUNDLE, device.folder, "--class", "t-shirt")
        assert outcome.code == 0, outcome.err
        assert outcome.out.startswith("4 pictures are forgotten, 5 are left\nin use: personal head ")
    else:
        assert device.personalizer.remove("t-shirt").forgotten == 4
    for path in ALL:
        assert bool(device.traces(path)) == (path.parent.name == "sneaker")
    assert len(device.heads()) == 1


@pytest.mark.parametrize("on_the_command_line", [False, True])
@pytest.mark.parametrize(("label", "gone"), [(None, ALL[:6]), ("sneaker", [*ALL[:2], *ALL[4:6]])])
def test_old_pictures_are_forgotten(
    demo: Bundle,
    tmp_path: Path,
    label: str | None,
    gone: list[Path],
    on_the_command_line: bool,
    monkeypatch: pytest.MonkeyPatch,
    fbkit: Callable[..., Outcome],
) -> None:
    device, now = Device(tmp_path / "profile", demo), time.time()
    for batch, days in zip(BATCHES, (9, 4, 2), strict=True):
        monkeypatch.setattr(time, "time", lambda days=days: now - days * DAY)
        add(device, batch)
        device.personalizer.fit(recipe=RECIPE)
    monkeypatch.undo()
    if on_the_command_line:
        command = ("profile", "remove", BUNDLE, device.folder, "--older-than")
        of_class = ("--class", label) if label else ()
        for bad in ("3", "3 d", "-3d", "3w", ""):
            outcome = fbkit(*command, bad, *of_class)
            assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert fbkit(*command, "10d", *of_class).out.startswith("0 pictures are forgotten, 9 are left")
        assert fbkit(*command, "72h", *of_class).code == 0
    else:
        assert device.personalizer.remove(label, older_than=10 * DAY).forgotten == 0
        assert device.personalizer.remove(label, older_than=3 * DAY).forgotten == len(gone)
    for path in ALL:
        assert bool(device.traces(path)) == (path not in gone)


def test_with_nothing_left_the_shipped_head_is_in_use(device: Device) -> None:
    result = device.personalizer.remove(older_than=0)
    assert (result.forgotten, result.left, result.head) == (9, 0, None)
    state = device.profile.state
    assert (state.in_use, state.heads, state.memory, state.refit) == (None, (), (), None)
    assert not any(device.traces(path) for path in ALL)
    assert not list((device.folder / "heads").iterdir()) + list((device.folder / "memory").iterdir())
    shipped = Personalizer(device.bundle).predict(ALL)
    assert device.personalizer.predict(ALL) == shipped
    with pytest.raises(UserError, match="there are no pictures to fit a head to; add some first"):
        device.personalizer.fit()
    device.personalizer.fit(PICTURES / "train")
    assert device.profile.memory().numbers.min() == 10, "no number comes twice"


def came_again_with_another_class(device: Device) -> None:
    add(device, [ALL[0]], "t-shirt")


def was_dropped_by_limits_and_came_again(device: Device) -> None:
    device.personalizer.set_limits(Limits(pictures=2))
    assert not device.traces(ALL[0])
    device.personalizer.set_limits(Limits())
    add(device, [ALL[0]])


@pytest.mark.parametrize("change", [came_again_with_another_class, was_dropped_by_limits_and_came_again])
def test_a_head_that_saw_it_under_another_number_goes_too(device: Device, change: Callable[[Device], None]) -> None:
    old = device.heads()
    change(device)
    device.personalizer.fit(recipe=RECIPE)
    device.personalizer.remove(pictures=ALL[0])
    assert not device.traces(ALL[0])
    assert not set(old) & set(device.heads())


def test_heads_that_may_have_seen_the_class_before_limits_dropped_its_pictures_go_with_it(
    device: Device, tmp_path: Path
) -> None:
    before = snapshot(device.folder)
    assert device.personalizer.remove("bag").forgotten == 0
    assert snapshot(device.folder) == before
    device.personalizer.set_limits(Limits(pictures=2))
    old, left = device.heads(), [path for path in ALL if device.traces(path)]
    result = device.personalizer.remove("bag")
    assert (result.forgotten, result.left) == (0, 2)
    assert not set(old) & set(device.heads()), "nobody can tell any more whether they saw a bag"
    assert device.head() == fitted_alone(device, tmp_path, left)


def test_what_is_not_remembered_cannot_be_forgotten(
    device: Device, demo: Bundle, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    before, other = snapshot(device.folder), some("sneaker", 1, "test")[0]
    command = ("profile", "remove", BUNDLE, device.folder)
    cases: list[tuple[tuple[object, ...], str]] = [
        ((*command,), "nothing was named to be forgotten; give a class, an age or pictures"),
        ((*command, "--picture", other, "--picture", ALL[0]), f"{other}: is not remembered"),
        ((*command, "--picture", tmp_path / "none.png"), "none.png: cannot be read"),
        ((*command, "--number", 1, "--number", 10), "picture number 10: is not remembered"),
        ((*command, "--class", "hat"), "'hat': is no class of this bundle or profile"),
        (("profile", "remove", BUNDLE, tmp_path / "none", "--number", 1), f"{tmp_path / 'none'}: no profile there"),
    ]
    for arguments, said in cases:
        outcome = fbkit(*arguments)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome
        assert said in outcome.err
        assert snapshot(device.folder) == before
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="give a profile folder"):
        Personalizer(demo).remove("sneaker")


class Killed(BaseException):
    """Stands for SIGKILL; test_unbreakable.py sends real ones."""


def die(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("at", ["right after the commit", "before the head is fitted"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "personalize", "rollback"])
def test_a_removal_that_was_killed_is_finished_by_whoever_comes_next(
    device: Device, tmp_path: Path, at: str, command: str, fbkit: Callable[..., Outcome]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if at == "right after the commit":
            commit = Profile._commit

            def commit_and_die(*given: Any, **more: Any) -> None:
                commit(*given, **more)
                raise Killed

            patch.setattr(Profile, "sweep", lambda _: None)
            patch.setattr(Profile, "_commit", commit_and_die)
        else:
            patch.setattr("fbkit.device_runtime.personalizer.take", die)
        with pytest.raises(Killed):
            device.personalizer.remove(pictures=ALL[4])
    assert device.profile.state.refit == RECIPE.to_json()
    assert bool(device.traces(ALL[4])) == (at == "right after the commit")

    test = PICTURES / "test"
    arguments = {
        "predict": ("predict", BUNDLE, ALL[4], "--profile", device.folder),
        "evaluate": ("evaluate", BUNDLE, test, "--profile", device.folder),
        "personalize": ("personalize", BUNDLE, test, "--profile", device.folder),
        "rollback": ("profile", "rollback", BUNDLE, device.folder),
    }
    before = device.heads()
    outcome = fbkit(*arguments[command])
    assert outcome.code == 0, outcome.err
    assert device.profile.state.refit is None
    assert not device.traces(ALL[4])
    new = device.folder / "heads" / device.heads()[len(before)]
    assert new.read_bytes() == fitted_alone(device, tmp_path, [path for path in ALL if path != ALL[4]])


def test_a_reader_that_cannot_finish_a_removal_predicts_with_the_shipped_head(device: Device, demo: Bundle) -> None:
    """Because another process is at it."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("fbkit.device_runtime.personalizer.take", die)
        device.personalizer.remove(pictures=ALL[0])
    with changing_profile(device.folder, demo.manifest):
        assert device.personalizer.predict(ALL) == Personalizer(demo).predict(ALL)
    assert device.personalizer.predict(ALL) != Personalizer(demo).predict(ALL)


def test_a_recipe_in_the_profile_that_no_fbkit_writes_is_refused_by_name(
    device: Device, fbkit: Callable[..., Outcome]
) -> None:
    path = device.folder / "profile.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "refit": {**RECIPE.to_json(), "solver": "magic"}}))
    outcome = fbkit("profile", "rollback", BUNDLE, device.folder)
    assert outcome.code == 2
    assert outcome.err == f"fbkit: {device.folder}: refit: solver must be one of: exact, sgd\n"
    assert fbkit("predict", BUNDLE, ALL[0], "--profile", device.folder).code == 0, "with the head that is in use"

    value["heads"][-1]["recipe"] = {**RECIPE.to_json(), "penalty": -1}
    path.write_text(json.dumps(value))
    outcome = fbkit("personalize", BUNDLE, PICTURES / "train", "--profile", device.folder)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert f"{device.folder}: recipe of {device.heads()[-1]}: penalty must be a number above 0" in outcome.err


def test_a_recipe_that_runs_away_on_what_is_left_does_not_block_the_profile(demo: Bundle, tmp_path: Path) -> None:
    """The pull to the shipped head is over the number of pictures: on fewer it is stronger, and a step goes too far."""
    device = Device(tmp_path / "profile", demo)
    add(device, some("sneaker")[:9])
    recipe = Recipe("sgd", "keep", 40.0, Schedule(epochs=300, lr=0.4, penalty=40.0))
    assert device.personalizer.fit(recipe=recipe).head
    result = device.personalizer.remove(pictures=some("sneaker")[1:9])
    assert (result.left, result.head) == (1, None)
    assert device.profile.state.refit is None
    assert "ran away" in device.profile.journal()[-1]["reason"]
    assert device.personalizer.fit(PICTURES / "train").head
