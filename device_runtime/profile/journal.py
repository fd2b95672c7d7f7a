"""The journal: one JSON object a line for each change of the profile, oldest first."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fbkit.device_runtime.fields import Fields
from fbkit.device_runtime.profile.memory import Memory
from fbkit.errors import UserError
from fbkit.files import parse_json

Entry = dict[str, Any]

_MOST = 2**53
_LAST_TIME = 1e11  # seconds, in the year 5138


def to_line(entry: Entry) -> bytes:
    return json.dumps(entry, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def from_lines(data: bytes, path: Path) -> list[Entry]:
    """Read and check a journal; ``path`` is for messages.

    Raises:
        UserError: a line is none that ``to_line`` writes.
    """
    entries = []
    for place, line in enumerate(data.splitlines(), start=1):
        entry = Fields(path, f"line {place}: ", parse_json(line, path))
        if not 0 <= entry.number("time") < _LAST_TIME:
            raise entry.error("time", "must be in seconds since 1970")
        event = entry.text("event")
        if entry.values.get("head") is not None:
            entry.text("head")
        if event == "add":
            entry.integer("first", 1, _MOST)
            entry.integer("last", 1, _MOST)
        if event == "classes" and not isinstance(entry.value("added"), list):
            raise entry.error("added", "must be a list of names")
        entries.append(entry.values)
    return entries


def write_at(path: Path, place: int, data: bytes) -> None:
    """Write behind what counts of a journal, over what a crash may have left there.

    Raises:
        UserError: it is not there, or shorter.
        OSError: there is no room.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        if os.fstat(descriptor).st_size < place:
            raise too_short(path)
        os.ftruncate(descriptor, place)
        if os.pwrite(descriptor, data, place) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def too_short(path: Path) -> UserError:
    return UserError(f"{path}: is shorter than profile.json says")


def counted(memory: Memory, classes: tuple[str, ...]) -> Entry:
    """Pictures as they stand in the journal: numbers from ``first`` to ``last``, and how many of each class."""
    counts = np.bincount(memory.labels, minlength=len(classes))
    return {
        "first": int(memory.numbers[0]),
        "last": int(memory.numbers[-1]),
        "pictures": {name: int(count) for name, count in zip(classes, counts, strict=True) if count},
    }


def unlearned(entries: Sequence[Entry]) -> bool:
    """Whether pictures came since a head was last fitted."""
    return next((entry["event"] == "add" for entry in reversed(entries) if entry["event"] in ("add", "fit")), False)


def without(entries: list[Entry], heads: set[str], left: Memory, classes: tuple[str, ...]) -> list[Entry]:
    """The journal without pictures that are no longer remembered, and without heads but these."""
    kept = []
    for entry in entries:
        if entry.get("event") == "add":
            rows = left.where((left.numbers >= entry["first"]) & (left.numbers <= entry["last"]))
            if len(rows):
                kept.append({**entry, **counted(rows, classes)})
        elif entry.get("event") == "classes":
            if added := [name for name in entry["added"] if name in classes]:
                kept.append({**entry, "added": added})
        elif entry.get("head") is None or entry["head"] in heads:
            kept.append(entry)
    return kept
