"""``profile.json``: which files the profile consists of. It is replaced atomically, and only so anything changes."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fbkit.device_runtime.fields import Fields
from fbkit.device_runtime.manifest import parse_classes
from fbkit.device_runtime.profile.memory import NO_LIMITS, Limits
from fbkit.files import MAX_JSON_BYTES, parse_json, read_plain

SCHEMA = "fbkit.profile"
VERSION = 2
FILE_NAME = "profile.json"

_NUMBERED = r"[0-9]{4,9}"
_MOST = 2**53
_MOST_FILES = 1000
_MOST_FILE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class HeadEntry:
    """A personal head that can be in use.

    Attributes:
        file: its name in ``heads/``.
        classes: how many rows it has: the bundle's classes, and those that were added until it was made.
        seen: it was fitted on pictures with numbers up to this one, those of them that were remembered then.
        pictures: how many these were.
        recipe: how it was fitted.
    """

    file: str
    sha256: str
    classes: int
    seen: int
    pictures: int
    recipe: dict[str, Any]


@dataclass(frozen=True)
class MemoryEntry:
    """A file in ``memory/``, and how many pictures are in it."""

    file: str
    sha256: str
    pictures: int


@dataclass(frozen=True)
class State:
    """All of ``profile.json``.

    Attributes:
        bundle: the identity digest of the bundle that it belongs to.
        classes: the bundle's, then the device's own.
        heads: oldest first.
        in_use: the file of the head in use; None for the shipped one.
        memory: files of what is remembered, oldest first.
        last_picture: the greatest number given to a picture.
        last_file: the greatest number given to a file.
        journal: its file; None before the first entry.
        journal_bytes: how much of it counts.
        limits: of what is remembered.
        keep_pictures: whether pictures are kept, too.
        refit: how a head has yet to be fitted, because the one in use knew pictures that were forgotten.
    """

    bundle: str
    classes: tuple[str, ...]
    heads: tuple[HeadEntry, ...] = ()
    in_use: str | None = None
    memory: tuple[MemoryEntry, ...] = ()
    last_picture: int = 0
    last_file: int = 0
    journal: str | None = None
    journal_bytes: int = 0
    limits: Limits = NO_LIMITS
    keep_pictures: bool = False
    refit: dict[str, Any] | None = None

    def head_in_use(self) -> HeadEntry | None:
        return next((entry for entry in self.heads if entry.file == self.in_use), None)

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "version": VERSION, **asdict(self)}


def read_state(folder: Path) -> State:
    """Read and check ``profile.json``.

    Raises:
        UserError: it is missing, of another version, or holds what no fbkit writes.
    """
    path = folder / FILE_NAME
    top = Fields(path, "", parse_json(read_plain(path, MAX_JSON_BYTES), path))
    if top.value("schema") != SCHEMA:
        raise top.error("schema", f"must be {SCHEMA!r}")
    version = top.integer("version", 1, 10**6)
    if version != VERSION:
        newer = "upgrade fbkit to open it" if version > VERSION else "personalize into a new folder"
        raise top.error("version", f"is {version}, this fbkit reads version {VERSION}; {newer}")
    limits, classes = top.section("limits"), parse_classes(top)
    state = State(
        bundle=top.text("bundle"),
        classes=classes,
        heads=tuple(_head(entry, len(classes)) for entry in _entries(top, "heads")),
        in_use=None if top.value("in_use") is None else _name(top, "in_use", r"\.safetensors"),
        memory=tuple(
            MemoryEntry(_name(entry, "file", r"\.safetensors"), _digest(entry), entry.integer("pictures", 1, _MOST))
            for entry in _entries(top, "memory")
        ),
        last_picture=top.integer("last_picture", 0, _MOST),
        last_file=top.integer("last_file", 0, 10**9 - 1),
        journal=None if top.value("journal") is None else _name(top, "journal", r"\.jsonl"),
        journal_bytes=top.integer("journal_bytes", 0, _MOST_FILE_BYTES),
        limits=Limits(_optional_count(limits, "pictures"), _optional_count(limits, "bytes")),
        keep_pictures=top.flag("keep_pictures"),
        refit=None if top.value("refit") is None else top.section("refit").values,
    )
    if state.in_use is not None and state.head_in_use() is None:
        raise top.error("in_use", "is none of its heads")
    last = 0 if state.journal is None else _number(state.journal)
    for key, entries in (("heads", state.heads), ("memory", state.memory)):
        numbers = [_number(entry.file) for entry in entries]
        if numbers != sorted(set(numbers)):
            raise top.error(key, "must name each file once, in the order of their numbers")
        last = max(last, *numbers, 0)
    if last > state.last_file:
        raise top.error("last_file", f"must be {last} at least, a file has this number")
    return state


def _number(file: str) -> int:
    return int(file.partition(".")[0])


def _head(entry: Fields, classes: int) -> HeadEntry:
    return HeadEntry(
        file=_name(entry, "file", r"\.safetensors"),
        sha256=_digest(entry),
        classes=entry.integer("classes", 2, classes),
        seen=entry.integer("seen", 1, _MOST),
        pictures=entry.integer("pictures", 1, _MOST),
        recipe=entry.section("recipe").values,
    )


def _entries(top: Fields, key: str) -> list[Fields]:
    values = top.value(key)
    if not isinstance(values, list) or len(values) > _MOST_FILES or not all(isinstance(v, dict) for v in values):
        raise top.error(key, f"must be a list of at most {_MOST_FILES} objects")
    return [top.item(key, place, value) for place, value in enumerate(values)]


def _name(fields: Fields, key: str, suffix: str) -> str:
    name = fields.text(key)
    if not re.fullmatch(_NUMBERED + suffix, name):
        raise fields.error(key, "is no name that fbkit gives to a file")
    return name


def _digest(fields: Fields) -> str:
    digest = fields.text("sha256")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise fields.error("sha256", "must be 64 hexadecimal digits")
    return digest


def _optional_count(fields: Fields, key: str) -> int | None:
    return None if fields.value(key) is None else fields.integer(key, 1, _MOST)
