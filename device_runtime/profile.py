"""The profile folder: what a device has learned. docs/profile-format.md describes it.

    profile.json           format version, the bundle it belongs to, the head in use; replaced atomically
    heads/NNNN.safetensors personal heads, never changed once written; each carries its own journal entry
    features.safetensors   features of the pictures seen, by the SHA-256 of the picture's file
    journal.jsonl          one object for each head taken into use
    lock                   held while a command changes the profile

Only the owner can read it. Writes come in the order head, profile.json, journal: a crash leaves the old head in use or
the new one, and a journal that lacks its line is completed from the head by the next command that changes the profile.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fbkit.device_runtime.head import Head, head_from_bytes
from fbkit.device_runtime.manifest import Manifest
from fbkit.device_runtime.tensors import Float, pack_tensors, read_metadata, unpack_tensors
from fbkit.errors import UserError
from fbkit.files import read_json, sha256_bytes, sync_folder, write_atomic, write_json

SCHEMA = "fbkit.profile"
VERSION = 1

_HEAD_NAME = re.compile(r"[0-9]{4,9}\.safetensors")
_LEFTOVER = re.compile(r"\.(profile\.json|features\.safetensors|[0-9]{4,9}\.safetensors)\.[^.]*\.partial")
_ENTRY = "journal"  # key of a head's metadata


@dataclass(frozen=True)
class Profile:
    """A profile folder that fits a bundle. Get one with ``find_profile`` or ``changing_profile``."""

    folder: Path
    manifest: Manifest

    @property
    def _state_path(self) -> Path:
        return self.folder / "profile.json"

    def head(self) -> Head | None:
        """The personal head in use, None before the first.

        Raises:
            UserError: the head's file is missing or altered.
        """
        name, digest = self._state()
        if name is None:
            return None
        path = self.folder / "heads" / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); personalize again") from error
        if sha256_bytes(data) != digest:
            raise UserError(f"{path}: was altered, its SHA-256 is not the one in profile.json; personalize again")
        return head_from_bytes(data, len(self.manifest.classes), self.manifest.features, str(path))

    def take_into_use(self, head: Head, note: dict[str, Any]) -> str:
        """Write a new head and make it the one in use; return its file name. ``note`` goes into the journal."""
        heads = self.folder / "heads"
        numbers = [int(path.stem) for path in heads.iterdir() if _HEAD_NAME.fullmatch(path.name)]
        name = f"{max(numbers, default=0) + 1:04d}.safetensors"
        entry = {"time": round(time.time(), 3), "head": name, **note}
        data = head.to_bytes({_ENTRY: json.dumps(entry)})
        write_atomic(heads / name, data, private=True)
        self._write_state(name, sha256_bytes(data))
        self._append_to_journal(entry)
        return name

    def journal(self) -> list[dict[str, Any]]:
        """The journal's entries, oldest first; a line cut short by a crash is left out."""
        path = self.folder / "journal.jsonl"
        entries = []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
        return entries

    def cached_features(self) -> dict[str, Float]:
        """Features by the hex SHA-256 of the picture's file. A broken cache counts as empty: it can be made again."""
        path = self.folder / "features.safetensors"
        shapes = {"digests": ("uint8", (-1, 32)), "features": ("float32", (-1, self.manifest.features))}
        try:
            tensors = unpack_tensors(path.read_bytes(), shapes, str(path))
        except (OSError, UserError):
            return {}
        if len(tensors["digests"]) != len(tensors["features"]):
            return {}
        return {
            bytes(digest).hex(): features
            for digest, features in zip(tensors["digests"], tensors["features"], strict=True)
        }

    def cache_features(self, features: dict[str, Float]) -> None:
        """Replace the cache."""
        digests = np.array([list(bytes.fromhex(digest)) for digest in features], np.uint8).reshape(-1, 32)
        rows = np.array(list(features.values()), np.float32).reshape(-1, self.manifest.features)
        data = pack_tensors({"digests": digests, "features": rows})
        write_atomic(self.folder / "features.safetensors", data, private=True)

    def _state(self) -> tuple[str | None, str | None]:
        """The name and SHA-256 of the head in use.

        Raises:
            UserError: not a profile of this version, or of another bundle.
        """
        state = read_json(self._state_path)
        if state.get("schema") != SCHEMA or type(state.get("version")) is not int or state["version"] != VERSION:
            raise UserError(f"{self._state_path}: not a profile of format version {VERSION}, which this fbkit reads")
        if state.get("bundle") != self.manifest.identity:
            raise UserError(
                f"{self.folder}: this profile was made with another bundle; give the bundle it was made with, "
                "or personalize into a new folder"
            )
        name, digest = state.get("head", ""), state.get("head_sha256", "")
        if name is None and digest is None:
            return None, None
        if not (isinstance(name, str) and _HEAD_NAME.fullmatch(name) and isinstance(digest, str)):
            raise UserError(f"{self._state_path}: head must be the name of a file in heads/, or null")
        return name, digest

    def _write_state(self, head: str | None, digest: str | None) -> None:
        state = {
            "schema": SCHEMA,
            "version": VERSION,
            "bundle": self.manifest.identity,
            "head": head,
            "head_sha256": digest,
        }
        write_json(self._state_path, state, private=True)

    def _append_to_journal(self, entry: dict[str, Any]) -> None:
        path = self.folder / "journal.jsonl"
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            # A line that a crash cut short is closed first, so that it spoils no other.
            cut_short = size and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (("\n" if cut_short else "") + json.dumps(entry) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self.folder)

    def _recover(self) -> None:
        """Complete what a crash left: remove half-written files, enter the head in use into the journal."""
        for path in (*self.folder.iterdir(), *(self.folder / "heads").iterdir()):
            if _LEFTOVER.fullmatch(path.name):
                path.unlink()
        name, digest = self._state()
        if name is None or any(entry.get("head") == name for entry in self.journal()):
            return
        try:
            data = (self.folder / "heads" / name).read_bytes()
            entry = json.loads(read_metadata(data, name)[_ENTRY])
        except (OSError, UserError, KeyError, ValueError):
            return  # a damaged head has nothing to tell; whoever reads it next is told so
        if sha256_bytes(data) == digest and isinstance(entry, dict):
            self._append_to_journal({**entry, "head": name})


def find_profile(folder: Path, manifest: Manifest) -> Profile | None:
    """The profile in ``folder``, which must belong to the bundle; None where one can be made.

    Raises:
        UserError: something else is there, or the profile belongs to another bundle.
    """
    profile = Profile(folder, manifest)
    if (folder / "profile.json").exists():
        profile._state()
        return profile
    if folder.exists() and not (folder.is_dir() and all(_may_be_ours(path.name) for path in folder.iterdir())):
        raise UserError(f"{folder}: exists and is not a profile; choose another folder")
    return None


def _may_be_ours(name: str) -> bool:
    """Whether a profile that was never finished can hold this."""
    return name in ("heads", "lock") or _LEFTOVER.fullmatch(name) is not None


@contextmanager
def changing_profile(folder: Path, manifest: Manifest) -> Iterator[Profile]:
    """Hold the profile in ``folder`` against other processes while it is changed; make it where there is none.

    Raises:
        UserError: another process holds it, it cannot be made, or as ``find_profile``.
    """
    find_profile(folder, manifest)  # before anything is made in a folder that is somebody else's
    try:
        (folder / "heads").mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process is changing this profile; try again") from error
        profile = find_profile(folder, manifest)
        if profile is None:
            profile = Profile(folder, manifest)
            profile._write_state(None, None)
        profile._recover()
        yield profile
    finally:
        os.close(descriptor)
