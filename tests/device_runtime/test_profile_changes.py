"""All changes of a profile, in any order, beside a plain dictionary that is changed in the same way."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fbkit.device_runtime.head import Head
from fbkit.device_runtime.profile import Limits, Profile, changing_profile
from fbkit.device_runtime.profile.state import read_state
from fbkit.errors import UserError
from tests.device_runtime.small_profile import (
    MANIFEST,
    RECIPE,
    SHIPPED,
    digest_of,
    features_of,
    head_of,
    remember,
    reopened,
)


@dataclass
class ModelHead:
    """saw: the pictures it was fitted on, with the numbers that they had."""

    file: str
    classes: int
    saw: dict[int, int]
    head: Head


@dataclass
class Model:
    """What a profile means. pictures: label and number of each, in order."""

    classes: list[str] = field(default_factory=lambda: list(MANIFEST.classes))
    pictures: dict[int, tuple[str, int]] = field(default_factory=dict)
    heads: list[ModelHead] = field(default_factory=list)
    in_use: str | None = None
    refit: bool = False
    limit: int | None = None
    keep: bool = False
    kept: set[int] = field(default_factory=set)
    last: int = 0
    journal: list[dict[str, Any]] = field(default_factory=list)

    def numbers(self) -> dict[int, int]:
        return {picture: number for picture, (_, number) in self.pictures.items()}

    def keep_to_the_limit(self) -> None:
        while self.limit is not None and len(self.pictures) > self.limit:
            labels = [label for label, _ in self.pictures.values()]
            most = max(self.classes, key=labels.count)
            del self.pictures[next(picture for picture, (label, _) in self.pictures.items() if label == most)]

    def counted(self, pictures: dict[int, tuple[str, int]]) -> dict[str, Any]:
        labels, numbers = zip(*pictures.values(), strict=True)
        counts = {name: labels.count(name) for name in self.classes if name in labels}
        return {"first": min(numbers), "last": max(numbers), "pictures": counts}


LABELS = st.dictionaries(st.integers(0, 15), st.integers(0, SHIPPED + 3), min_size=1, max_size=8)


class Killed(BaseException):
    """Stands for a process that ends here."""


def die(*_: object) -> None:
    raise Killed


class ChangesInAnyOrder(RuleBasedStateMachine):
    """Each rule is a command: it opens the profile, changes it, and the next one opens it again."""

    @initialize()
    def make(self) -> None:
        self.model = Model()
        self.folder = Path(tempfile.mkdtemp()) / "profile"
        self.before: tuple[str | None, bytes] = (None, b"")
        self.numbers: dict[str, str] = {}
        with changing_profile(self.folder, MANIFEST):
            pass

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder.parent)

    @rule(labels=LABELS, new_class=st.booleans())
    def add(self, labels: dict[int, int], new_class: bool) -> None:
        model, names = self.model, (f"own{self.model.last}",) if new_class else ()
        classes = [*model.classes, *names]
        labels = {picture: label % len(classes) for picture, label in labels.items()}
        if new_class:
            labels[next(iter(labels))] = len(classes) - 1
        with changing_profile(self.folder, MANIFEST) as profile:
            remember(profile, labels, names)
        new = {
            picture: classes[label]
            for picture, label in labels.items()
            if picture not in model.pictures or model.pictures[picture][0] != classes[label]
        }
        if model.keep:
            model.kept |= set(labels)
        if not new:
            return
        model.classes = classes
        for picture, label in new.items():
            model.last += 1
            model.pictures.pop(picture, None)
            model.pictures[picture] = (label, model.last)
        model.journal.append({"event": "add", **model.counted({picture: model.pictures[picture] for picture in new})})
        model.keep_to_the_limit()
        model.kept &= set(model.pictures)

    @rule(labels=LABELS)
    def add_and_be_killed(self, labels: dict[int, int]) -> None:
        labels = {picture: label % len(self.model.classes) for picture, label in labels.items()}
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(Killed),
            changing_profile(self.folder, MANIFEST) as profile,
        ):
            patch.setattr(Profile, "_commit", die)
            patch.setattr(Profile, "sweep", lambda _: None)
            remember(profile, {99: 0, **labels})
        if self.model.keep:
            self.model.kept |= set(labels) & set(self.model.pictures)

    @rule(chosen=st.sets(st.integers(0, 15)) | st.just(set(range(16))))
    def forget(self, chosen: set[int]) -> None:
        model = self.model
        gone = chosen & set(model.pictures)
        with changing_profile(self.folder, MANIFEST) as profile:
            memory = profile.memory()
            rows = np.isin(memory.numbers, [model.pictures[picture][1] for picture in gone])
            profile.forget(rows, RECIPE)
        had = {label for label, _ in model.pictures.values()}
        left = {picture: entry for picture, entry in model.pictures.items() if picture not in gone}
        empty = {label for label in had - {label for label, _ in left.values()} if label not in MANIFEST.classes}
        first_empty = min((model.classes.index(label) for label in empty), default=len(model.classes))
        heads = [
            head
            for head in model.heads
            if head.saw.items() <= model.numbers().items() and not gone & set(head.saw) and head.classes <= first_empty
        ]
        if not gone and heads == model.heads:
            return
        files = {head.file for head in heads}
        if model.in_use is not None and model.in_use not in files:
            model.in_use, model.refit = None, True
        model.refit = model.refit and bool(left)
        model.pictures, model.heads, model.kept = left, heads, model.kept & set(left)
        model.classes = [label for label in model.classes if label not in empty]
        journal = []
        for entry in model.journal:
            if entry["event"] == "add":
                within = {p: e for p, e in left.items() if entry["first"] <= e[1] <= entry["last"]}
                journal += [{"event": "add", **model.counted(within)}] if within else []
            elif entry["event"] == "classes":
                added = [name for name in entry["added"] if name in model.classes]
                journal += [{**entry, "added": added}] if added else []
            elif entry.get("head") is None or entry["head"] in files:
                journal.append(entry)
        model.journal = [*journal, {"event": "remove", "pictures": len(gone)}]

    @rule(seed=st.integers(0, 5))
    def fit(self, seed: int) -> None:
        model = self.model
        if not model.pictures:
            return
        with changing_profile(self.folder, MANIFEST) as profile:
            head = head_of(profile, seed)
            profile.take_into_use(head, RECIPE, {"note": seed})
            file = profile.state.in_use
        assert file
        if not model.refit:
            model.heads = model.heads[: [None, *(head.file for head in model.heads)].index(model.in_use)]
        model.heads = [*model.heads, ModelHead(file, len(model.classes), model.numbers(), head)][-10:]
        model.in_use, model.refit = file, False
        model.journal.append({"event": "fit", "head": file, **RECIPE, "note": seed})

    @rule(shipped=st.booleans())
    def fit_in_vain(self, shipped: bool) -> None:
        with changing_profile(self.folder, MANIFEST) as profile:
            if shipped:
                profile.take_into_use(None, RECIPE, {})
                self.model.in_use = None
            else:
                profile.keep_in_use(RECIPE, {})
        self.model.refit = False
        self.model.journal.append({"event": "fit", "head": self.model.in_use, **RECIPE})

    @rule()
    def roll_back(self) -> None:
        model = self.model
        with changing_profile(self.folder, MANIFEST) as profile:
            if model.in_use is None:
                with pytest.raises(UserError, match="the shipped head is in use, there is none before it"):
                    profile.roll_back()
                return
            found = profile.roll_back()
        files = [None, *(head.file for head in model.heads)]
        model.in_use = files[files.index(model.in_use) - 1]
        assert found == model.in_use
        model.journal.append({"event": "roll back", "head": found})

    @rule(limit=st.none() | st.integers(1, 12), keep=st.booleans())
    def set_limits(self, limit: int | None, keep: bool) -> None:
        model = self.model
        with changing_profile(self.folder, MANIFEST) as profile:
            profile.set_limits(Limits(limit), keep)
        if (limit, keep) == (model.limit, model.keep):
            return
        model.limit, model.keep = limit, keep
        model.keep_to_the_limit()
        model.kept &= set(model.pictures) if keep else set()
        model.journal.append({"event": "limits", "pictures": limit, "bytes": None})

    @precondition(lambda self: len(self.model.classes) < SHIPPED + 3)
    @rule(name=st.sampled_from(["hat", "scarf", "bag", "a/b", ""]))
    def add_class(self, name: str) -> None:
        with changing_profile(self.folder, MANIFEST) as profile:
            if name in (*self.model.classes, "a/b", ""):
                with pytest.raises(UserError, match=rf"^class '{name}': (is there already|cannot name a folder)"):
                    profile.add_classes([name])
                return
            profile.add_classes([name])
        self.model.classes.append(name)
        self.model.journal.append({"event": "classes", "added": [name]})

    @invariant()
    def it_means_the_same(self) -> None:
        model, profile = self.model, reopened(self.folder)
        memory, state = profile.memory(), profile.state
        assert list(profile.classes) == model.classes
        assert memory.numbers.tolist() == [number for _, number in model.pictures.values()]
        assert [profile.classes[label] for label in memory.labels] == [label for label, _ in model.pictures.values()]
        assert list(memory.rows_by_digest()) == [digest_of(picture) for picture in model.pictures]
        for picture, row in zip(model.pictures, memory.features, strict=True):
            assert np.array_equal(row, features_of(picture))
        assert [(entry.file, entry.classes) for entry in state.heads] == [(h.file, h.classes) for h in model.heads]
        head = profile.head()
        assert state.in_use == model.in_use
        assert (head is None) == (model.in_use is None)
        for expected in model.heads:
            if head is not None and expected.file == state.in_use:
                assert head.to_bytes() == expected.head.to_bytes()
        assert state.refit == (RECIPE if model.refit else None)
        journal = profile.journal()
        assert all(isinstance(entry.pop("time"), float) for entry in journal)
        assert journal == model.journal

    @invariant()
    def nothing_else_is_there(self) -> None:
        if reopened(self.folder).is_unfinished():  # killed; the next one to change it tidies up
            with changing_profile(self.folder, MANIFEST):
                pass
        state = read_state(self.folder)
        files = {str(path.relative_to(self.folder)): path for path in self.folder.rglob("*")}
        assert set(files) == {
            *("profile.json", "lock", "heads", "memory", "kept"),
            *([state.journal] if state.journal else []),
            *(f"heads/{entry.file}" for entry in state.heads),
            *(f"memory/{entry.file}" for entry in state.memory),
            *(f"kept/{digest_of(picture)}" for picture in self.model.kept),
        }
        assert {path.stat().st_mode & 0o777 for path in files.values() if path.is_file()} == {0o600}
        assert {path.stat().st_mode & 0o777 for path in [self.folder, *files.values()] if path.is_dir()} == {0o700}

    @invariant()
    def files_are_few_and_never_changed(self) -> None:
        state = read_state(self.folder)
        sizes = [entry.pictures for entry in state.memory]
        assert sizes == sorted(set(sizes), reverse=True), "each is larger than those after it"
        files = {entry.file: entry.sha256 for entry in state.heads} | {e.file: e.sha256 for e in state.memory}
        for file, digest in files.items():
            assert self.numbers.setdefault(file, digest) == digest, "its number was given twice"
            assert int(Path(file).stem) <= state.last_file
        if state.journal:
            name, data = self.before
            self.before = (state.journal, (self.folder / state.journal).read_bytes())
            assert name != state.journal or self.before[1].startswith(data), "a journal grows"
            assert self.numbers.setdefault(state.journal, "journal") == "journal"


def test_changes_in_any_order_are_those_of_a_plain_dictionary(full: bool) -> None:
    run_state_machine_as_test(
        ChangesInAnyOrder,
        settings=settings(max_examples=300 if full else 25, stateful_step_count=30, deadline=None),
    )
