"""The profile folder: what a device has learned. docs/profile-format.md describes it.

    profile.json           format version, the bundle it belongs to, the head in use; replaced atomically
    heads/NNNN.safetensors personal heads, never changed once written
    features.safetensors   features of the pictures seen, by the SHA-256 of the picture's file
    journal.jsonl          one object for each head taken into use
    lock                   held while a command changes the profile

Only the owner can read it. The order of writes makes every crash harmless: first a new head, then profile.json.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fbkit.device_runtime.head import Head, head_from_bytes
from fbkit.device_runtime.manifest import Manifest
from fbkit.device_runtime.tensors import Float, pack_tensors, unpack_tensors
from fbkit.errors import UserError
from fbkit.files import read_json, sha256_bytes, sync_folder, write_atomic, write_json

SCHEMA = "fbkit.profile"
VERSION = 1


@dataclass(frozen=True)
class Profile:
    """A profile folder that fits a bundle. Get one with ``find_profile`` or ``create_profile``."""

    folder: Path
    manifest: Manifest

    @property
    def _state_path(self) -> Path:
        return self.folder / "profile.json"

    def head(self) -> Head | None:
        """The personal head in use, None before the first.

        Raises:
            UserError: the head's file is missing or broken.
        """
        name = self._state()["head"]
        if name is None:
            return None
        path = self.folder / "heads" / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); personalize again") from error
        return head_from_bytes(data, len(self.manifest.classes), self.manifest.features, str(path))

    def take_into_use(self, head: Head, note: dict[str, Any]) -> str:
        """Write a new head and make it the one in use; return its file name. ``note`` goes into the journal."""
        heads = self.folder / "heads"
        numbers = [int(path.stem) for path in heads.glob("*.safetensors") if path.stem.isdigit()]
        name = f"{max(numbers, default=0) + 1:04d}.safetensors"
        data = head.to_bytes()
        write_atomic(heads / name, data, private=True)
        self._write_state(name)
        entry = {"time": round(time.time(), 3), "head": name, "sha256": sha256_bytes(data), **note}
        self._append_to_journal(entry)
        return name

    def journal(self) -> list[dict[str, Any]]:
        """The journal's entries, oldest first; a line cut short by a crash is left out."""
        path = self.folder / "journal.jsonl"
        entries = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return entries

    def cached_features(self) -> dict[str, Float]:
        """Features by the hex SHA-256 of the picture's file. A broken cache counts as empty: it can be made again."""
        path = self.folder / "features.safetensors"
        if not path.exists():
            return {}
        shapes = {"digests": ("uint8", (-1, 32)), "features": ("float32", (-1, self.manifest.features))}
        try:
            tensors = unpack_tensors(path.read_bytes(), shapes, str(path))
        except UserError:
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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the profile against other processes.

        Raises:
            UserError: another process holds it.
        """
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"{self.folder}: another process is changing this profile; try again") from error
            yield
        finally:
            os.close(descriptor)

    def _state(self) -> dict[str, Any]:
        state = read_json(self._state_path)
        if state.get("schema") != SCHEMA or state.get("version") != VERSION:
            raise UserError(f"{self._state_path}: not a profile of format version {VERSION}, which this fbkit reads")
        name = state.get("head", "")
        if name is not None and (not isinstance(name, str) or Path(name).name != name or not name):
            raise UserError(f"{self._state_path}: head must be a file name or null")
        return state

    def _write_state(self, head: str | None) -> None:
        state = {"schema": SCHEMA, "version": VERSION, "bundle": self.manifest.identity, "head": head}
        write_json(self._state_path, state, private=True)

    def _append_to_journal(self, entry: dict[str, Any]) -> None:
        path = self.folder / "journal.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # A line that a crash cut short is closed first, so that it spoils no other.
            ends_well = not path.stat().st_size or path.read_bytes().endswith(b"\n")
            os.write(descriptor, (("" if ends_well else "\n") + json.dumps(entry) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self.folder)


def find_profile(folder: Path, manifest: Manifest) -> Profile | None:
    """The profile in ``folder``, which must belong to the bundle; None where one can be made.

    Raises:
        UserError: something else is there, or the profile belongs to another bundle.
    """
    profile = Profile(folder, manifest)
    if not (folder / "profile.json").exists():
        if folder.exists() and not (folder.is_dir() and {path.name for path in folder.iterdir()} <= {"heads", "lock"}):
            raise UserError(f"{folder}: exists and is not a profile; choose another folder")
        return None
    if profile._state().get("bundle") != manifest.identity:
        raise UserError(
            f"{folder}: this profile was made with another bundle; give the bundle it was made with, "
            "or personalize into a new folder"
        )
    return profile


def create_profile(folder: Path, manifest: Manifest) -> Profile:
    """Make an empty profile in a folder for which ``find_profile`` gave None.

    Raises:
        UserError: the folder cannot be made.
    """
    try:
        (folder / "heads").mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
    profile = Profile(folder, manifest)
    profile._write_state(None)
    return profile
