"""The profile folder, opened and changed. docs/profile-format.md describes it.

    profile.json           which of the files below count; replaced atomically
    heads/NNNN.safetensors personal heads
    memory/NNNN.safetensors  features, classes, times and digests of the pictures seen
    kept/DIGEST            the pictures themselves, where they are kept
    NNNN.jsonl             the journal
    lock                   held while a command changes the profile

Files with numbers are never changed once they count, but for the journal, which grows. A change writes new files first
and ``profile.json`` last: after a crash the profile is the old one or the new one. What then belongs to neither is
removed by whoever opens it next, and never has a meaning.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fbkit.device_runtime.head import Head, head_from_bytes
from fbkit.device_runtime.manifest import Manifest, is_class_name
from fbkit.device_runtime.profile.journal import Entry, counted, from_lines, to_line, too_short, without, write_at
from fbkit.device_runtime.profile.memory import Limits, Memory, Rows, memory_from_bytes, no_memory
from fbkit.device_runtime.profile.state import FILE_NAME, HeadEntry, MemoryEntry, State, read_state
from fbkit.device_runtime.tensors import Float, Labels
from fbkit.errors import UserError
from fbkit.files import read_plain, sha256_bytes, write_atomic, write_json

FOLDERS = ("heads", "memory", "kept")
_MOST_HEADS = 10  # that one can go back to
_MOST_JOURNAL_BYTES = 1024**2
_MOST_FILE_BYTES = 2 * 1024**3
TEMPORARY = re.compile(r"\..*\.partial")
_OURS = re.compile(r"[0-9]{4,9}\.(safetensors|jsonl)|[0-9a-f]{64}|" + TEMPORARY.pattern)


_T = TypeVar("_T")


class Profile:
    """A profile folder that fits a bundle. Get one with ``find_profile`` or, to change it, ``changing_profile``."""

    def __init__(self, folder: Path, manifest: Manifest, state: State) -> None:
        self.folder, self.manifest, self.state = folder, manifest, state

    @property
    def classes(self) -> tuple[str, ...]:
        """The bundle's classes, then the device's own."""
        return self.state.classes

    def head(self) -> Head | None:
        """The personal head in use, with a row for each class that there was when it was made; None before the first.

        Raises:
            UserError: its file is missing or altered.
        """
        return self._now(self._read_head)

    def memory(self) -> Memory:
        """All that is remembered.

        Raises:
            UserError: a file is missing or altered.
        """
        return self._now(lambda: self._read_memory(self.state.memory))

    def journal(self) -> list[Entry]:
        """The journal's entries, oldest first.

        Raises:
            UserError: it is missing or altered.
        """
        return self._now(self._read_journal)

    def keeps(self, digest: str) -> bool:
        """Whether a picture's file is kept, too."""
        return (self.folder / "kept" / digest).exists()

    def kept_picture(self, digest: str) -> bytes:
        """The file of a picture that is kept.

        Raises:
            UserError: it is missing or altered.
        """
        return _read(self.folder / "kept" / digest, digest)

    def _now(self, read: Callable[[], _T]) -> _T:
        """What ``read`` finds; if that fails because another process has just changed the profile, once more."""
        while True:
            try:
                return read()
            except UserError:
                state = read_state(self.folder)
                if state == self.state:
                    raise
                self.state = state

    # Changes, each of which happens as a whole or not at all.

    def remember(
        self,
        digests: Sequence[str],
        labels: Labels,
        features: Float,
        files: Mapping[str, bytes],
        new_classes: Sequence[str] = (),
    ) -> None:
        """Add pictures. One that is remembered already counts as new if its label is another.

        Args:
            digests: hexadecimal, each once.
            labels: int64 [N].
            features: float32 [N, F], as ``as_stored`` gives them.
            files: the pictures' files by digest; written if the profile keeps pictures.
            new_classes: added to the classes first.

        Raises:
            UserError: a new class cannot be called so, or is there already.
        """
        state, known = self._with_classes(new_classes), self.memory()
        new = known.new_among(digests, labels, features, state.last_picture)
        if state.keep_pictures:
            for digest, content in files.items():
                write_atomic(self.folder / "kept" / digest, content, private=True)
        if not len(new):
            return
        everything = known.without(new) + new
        within = everything.within(state.limits)
        state = replace(state, last_picture=int(new.numbers[-1]))
        if len(within) == len(known) + len(new):
            state = self._append_memory(state, new)
        else:
            state = self._write_memory(replace(state, memory=()), within)
        self._commit(state, {"event": "add", **counted(new, state.classes)})

    def forget(self, rows: Rows, recipe: dict[str, Any], label: str | None = None) -> None:
        """Forget pictures, every head fitted with one of them, and what the journal says of these.

        Nobody knows any more what a head saw if some of its pictures are not remembered now, because of limits or
        because they came again with another class: it goes, too. So do classes of the device's own that have no picture
        left. If the head in use went, the shipped one is in use and ``state.refit`` is ``recipe``, until a head is
        taken into use.

        Args:
            rows: bool, of ``memory()``: True for what goes.
            recipe: how to fit the next head.
            label: a class that was named; if it is one of the device's own and has no picture, it goes.
        """
        known, state = self.memory(), self.state
        left, first_gone = known.where(~rows), known.numbers[rows].min(initial=state.last_picture + 1)
        had, has = set(known.labels[rows].tolist()), set(left.labels.tolist())
        named = set() if label is None else {self.classes.index(label)}
        gone = {place for place in (had | named) - has if place >= len(self.manifest.classes)}
        stay = [place for place in range(len(self.classes)) if place not in gone]
        heads = tuple(
            entry
            for entry in state.heads
            if entry.seen < first_gone
            and entry.pictures == (known.numbers <= entry.seen).sum()
            and entry.classes <= min(gone, default=len(self.classes))
        )
        if not rows.any() and not gone and heads == state.heads:
            return
        lost = state.in_use is not None and all(entry.file != state.in_use for entry in heads)
        state = replace(
            state,
            classes=tuple(self.classes[place] for place in stay),
            heads=heads,
            memory=(),
            in_use=None if lost else state.in_use,
            refit=(recipe if lost else state.refit) if len(left) else None,
        )
        left = replace(left, labels=np.array([stay.index(label) for label in left.labels], np.int64))
        entries = without(self.journal(), {entry.file for entry in heads}, left, state.classes)
        state = self._write_memory(state, left)
        self._commit(state, {"event": "remove", "pictures": int(rows.sum())}, journal=entries)

    def take_into_use(self, head: Head | None, recipe: dict[str, Any], note: dict[str, Any]) -> None:
        """Make a head, fitted on all that is remembered, the one in use; None: the shipped one.

        Rolling back from it leads to what was in use before, so heads that had been rolled back from go.

        ``recipe`` and ``note`` go into the journal.
        """
        state = replace(self.state, refit=None, in_use=None)
        if head is not None:
            data = head.to_bytes()
            state, name = _next_file(state, "safetensors")
            write_atomic(self.folder / "heads" / name, data, private=True)
            pictures = sum(entry.pictures for entry in state.memory)
            entry = HeadEntry(name, sha256_bytes(data), len(head.bias), state.last_picture, pictures, recipe)
            state = replace(state, heads=(*self._heads_before(), entry)[-_MOST_HEADS:], in_use=name)
        self._commit(state, {"event": "fit", "head": state.in_use, **recipe, **note})

    def _heads_before(self) -> tuple[HeadEntry, ...]:
        """Those that one comes to by rolling back from a head that is taken into use now."""
        heads = self.state.heads
        if self.state.refit is not None:  # it stands for the last one, that had to go
            return heads
        return heads[: [None, *(head.file for head in heads)].index(self.state.in_use)]

    def keep_in_use(self, recipe: dict[str, Any], note: dict[str, Any]) -> None:
        """Enter into the journal that the head in use stays."""
        self._commit(replace(self.state, refit=None), {"event": "fit", "head": self.state.in_use, **recipe, **note})

    def roll_back(self) -> str | None:
        """Take the head before the one in use; before the first it is the shipped one. Return its file's name.

        Raises:
            UserError: the shipped head is in use.
        """
        state = self.state
        if state.in_use is None:
            raise UserError(f"{self.folder}: the shipped head is in use, there is none before it")
        names = [None, *(entry.file for entry in state.heads)]
        name = names[names.index(state.in_use) - 1]
        self._commit(replace(state, in_use=name), {"event": "roll back", "head": name})
        return name

    def add_classes(self, names: Sequence[str]) -> None:
        """Add classes of the device's own.

        Raises:
            UserError: a name is no folder's, or there already.
        """
        self._commit(self._with_classes(names), {"event": "classes", "added": list(names)})

    def _with_classes(self, names: Sequence[str]) -> State:
        for name in names:
            if not is_class_name(name):
                raise UserError(f"class {name[:50]!r}: cannot name a folder; choose another name")
        if taken := {name for name in names if name in self.classes}:
            raise UserError(f"class {min(taken)!r}: is there already")
        return replace(self.state, classes=(*self.classes, *dict.fromkeys(names)))

    def set_limits(self, limits: Limits, keep_pictures: bool) -> None:
        """From now on remember no more than this, and keep pictures or not; what is above goes."""
        state = replace(self.state, limits=limits, keep_pictures=keep_pictures)
        if state == self.state:
            return
        known = self.memory()
        within = known.within(limits)
        if len(within) < len(known):
            state = self._write_memory(replace(state, memory=()), within)
        self._commit(state, {"event": "limits", "pictures": limits.pictures, "bytes": limits.bytes})

    def move(self, features: Float, recipe: dict[str, Any]) -> None:
        """Make it the profile of the bundle that it was opened with, whose body gave ``features`` for all ``memory()``.

        Its heads are of no use there and go. Classes that this bundle does not have become the device's own.

        Args:
            features: float32 [N, F].
            recipe: how to fit the next head.
        """
        known, names, ours = self.memory(), self.classes, self.manifest.classes
        used = {names[label] for label in known.labels}
        classes = ours + tuple(name for name in names if name in used and name not in ours)
        labels = np.array([classes.index(names[label]) for label in known.labels], np.int64)
        moved = replace(known, labels=labels, features=features).within(self.state.limits)
        state = replace(
            self.state,
            bundle=self.manifest.identity,
            classes=classes,
            heads=(),
            in_use=None,
            memory=(),
            refit=recipe if len(moved) else None,
        )
        state = self._write_memory(state, moved)
        self._commit(state, {"event": "another bundle", "bundle": state.bundle})

    def _append_memory(self, state: State, new: Memory) -> State:
        """Write ``new``, in one file with those before it that are not larger: so they are few, and written seldom."""
        entries, taken = list(state.memory), list[MemoryEntry]()
        while entries and entries[-1].pictures <= len(new) + sum(entry.pictures for entry in taken):
            taken.insert(0, entries.pop())
        return self._write_memory(replace(state, memory=tuple(entries)), self._read_memory(taken) + new)

    def _write_memory(self, state: State, memory: Memory) -> State:
        if not len(memory):
            return state
        state, name = _next_file(state, "safetensors")
        data = memory.to_bytes()
        write_atomic(self.folder / "memory" / name, data, private=True)
        return replace(state, memory=(*state.memory, MemoryEntry(name, sha256_bytes(data), len(memory))))

    def _read_memory(self, entries: Sequence[MemoryEntry]) -> Memory:
        """From a bundle that is not the one at hand, features may have any width."""
        width = self.manifest.features if self.state.bundle == self.manifest.identity else -1
        parts: list[Memory] = []
        for entry in entries:
            path = self.folder / "memory" / entry.file
            part = memory_from_bytes(_read(path, entry.sha256), width, len(self.classes), str(path))
            if len(part) != entry.pictures:
                raise UserError(f"{path}: holds {len(part)} pictures, {FILE_NAME} says {entry.pictures}")
            if parts and part.numbers[0] <= parts[-1].numbers[-1]:
                raise UserError(f"{path}: numbers must rise from file to file")
            parts.append(part)
        memory = sum(parts[1:], parts[0]) if parts else no_memory(self.manifest.features)
        if len(memory.rows_by_digest()) < len(memory):
            raise UserError(f"{self.folder / 'memory'}: two files hold the same picture")
        return memory

    def _read_head(self) -> Head | None:
        entry = self.state.head_in_use()
        if entry is None:
            return None
        path = self.folder / "heads" / entry.file
        return head_from_bytes(_read(path, entry.sha256), entry.classes, self.manifest.features, str(path))

    def _read_journal(self) -> list[Entry]:
        if self.state.journal is None:
            return []
        path = self.folder / self.state.journal
        data = read_plain(path, self.state.journal_bytes)[: self.state.journal_bytes]
        if len(data) < self.state.journal_bytes:
            raise too_short(path)
        return from_lines(data, path)

    def _commit(self, state: State, event: dict[str, Any], journal: list[dict[str, Any]] | None = None) -> None:
        """Enter ``event`` into the journal, or a new one in its place, and let ``state`` count."""
        line = to_line({"time": round(time.time(), 3), **event})
        if journal is None and state.journal is not None and state.journal_bytes < _MOST_JOURNAL_BYTES:
            write_at(self.folder / state.journal, state.journal_bytes, line)
            state = replace(state, journal_bytes=state.journal_bytes + len(line))
        else:
            entries = self.journal()[-1000:] if journal is None else journal
            data = b"".join(map(to_line, entries)) + line
            state, name = _next_file(state, "jsonl")
            write_atomic(self.folder / name, data, private=True)
            state = replace(state, journal=name, journal_bytes=len(data))
        write_json(self.folder / FILE_NAME, state.to_json(), private=True, compact=True)
        self.state = state
        self.sweep()

    def is_unfinished(self) -> bool:
        """Whether a crash left something to do or to remove."""
        return self.state.refit is not None or bool(self._past())

    def sweep(self) -> None:
        """Remove what does not count: files of the past, and what a crash left."""
        for path in self._past():
            path.unlink(missing_ok=True)

    def _past(self) -> list[Path]:
        state = self.state
        count = {"heads": {entry.file for entry in state.heads}, "memory": {entry.file for entry in state.memory}}
        past = []
        for name in ("heads", "memory"):
            past += [path for path in _files(self.folder / name) if path.name not in count[name]]
        past += [path for path in _files(self.folder) if path.name != state.journal]
        if kept := _files(self.folder / "kept"):
            wanted = self.memory().rows_by_digest() if state.keep_pictures else {}
            past += [path for path in kept if path.name not in wanted]
        return past


def _files(folder: Path) -> list[Path]:
    """Files that have a name of ours."""
    try:
        return [path for path in folder.iterdir() if _OURS.fullmatch(path.name)]
    except FileNotFoundError:
        return []


def _next_file(state: State, suffix: str) -> tuple[State, str]:
    number = state.last_file + 1
    return replace(state, last_file=number), f"{number:04d}.{suffix}"


def _read(path: Path, digest: str) -> bytes:
    advice = "restore the profile from a copy, or personalize into a new folder"
    try:
        data = read_plain(path, _MOST_FILE_BYTES)
    except UserError as error:
        raise UserError(f"{error}; {advice}") from error
    if sha256_bytes(data) != digest:
        raise UserError(f"{path}: was altered, its SHA-256 is another; {advice}")
    return data
