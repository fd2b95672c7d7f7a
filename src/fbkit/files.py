"""Files and folders that appear whole or not at all, and are checked before they are believed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fbkit.errors import UserError

MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_JSON_DEPTH = 32

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make renames and new names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, private: bool = False) -> None:
    """Replace ``path`` by ``data``: after a crash it holds the old bytes or the new ones, never a mixture.

    A private file can be read by its owner alone.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    except OSError as error:
        error.filename = str(path)  # not the temporary name
        raise
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o600 if private else 0o644)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)  # a full disk does not say which file it was
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any, private: bool = False, compact: bool = False) -> None:
    """Write JSON, for people to read with indents or, where it holds many numbers, compactly."""
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 2}
    write_atomic(path, (json.dumps(value, allow_nan=False, **layout) + "\n").encode(), private)


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object of bounded size.

    Raises:
        UserError: the file is missing, or as ``parse_json``.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path}: larger than {MAX_JSON_BYTES} bytes; this is not a file fbkit wrote")
        return parse_json(path.read_bytes(), path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except OSError as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """One JSON object; ``path`` is for messages.

    Raises:
        UserError: it is too large, not JSON, not an object or nested too deep, or it has what readers take differently:
            a key that stands twice, a number that no float64 can hold.
    """
    if len(data) > MAX_JSON_BYTES:
        raise UserError(f"{path}: larger than {MAX_JSON_BYTES} bytes; this is not a file fbkit wrote")
    try:
        value = json.loads(
            data, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_without_doubles
        )
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(value).__name__}")
    if _deeper_than(value, MAX_JSON_DEPTH):
        raise UserError(f"{path}: nested more than {MAX_JSON_DEPTH} deep; this is not a file fbkit wrote")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return values


def _deeper_than(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    if depth == 0:
        return True
    return any(_deeper_than(item, depth - 1) for item in (value.values() if isinstance(value, dict) else value))


def read_plain(path: Path, limit: int) -> bytes:
    """A plain file's bytes, at most ``limit`` and one more, so that a longer file shows. Links are not followed.

    Raises:
        UserError: it is a link, a folder or a device, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # of a pipe, do not wait for a writer
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path}: not a plain file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(min(limit, status.st_size) + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path}: not a plain file") from error
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def write_new(path: Path, data: bytes, private: bool = False) -> None:
    """Write a file that must not be there yet. A private file can be read by its owner alone.

    Raises:
        UserError: it is there, or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    except FileExistsError as error:
        raise UserError(f"{path}: exists already; choose another name or remove it") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be made ({error.strerror})") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def refuse_existing(folder: Path) -> None:
    """Raise UserError where ``folder`` is there already, empty or not."""
    if folder.is_symlink() or folder.exists():
        raise UserError(f"{folder}: exists already; choose another folder or remove it")


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold an exclusive lock on an existing file; it goes with the process, however that ends.

    On a file system that has no locks there is none, and the work goes on without.

    Raises:
        UserError: another process holds it; ``work`` says what that does.
    """
    with path.open("r+b") as file:  # NFS locks only what is open for writing
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{path.parent}: another {work} works there; wait for it or choose another folder"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


@contextmanager
def in_turn(path: Path, say_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on a file that is made for it and goes afterwards; wait while another process holds it.

    It spares work and guards nothing: on a file system that has no locks nobody waits, and a process that was killed
    leaves the file, which is no obstacle. So what is made inside must appear at once, as with ``whole_folder``.

    Raises:
        OSError: the file cannot be made.
    """
    with path.open("ab") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say_waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden sibling to fill; it becomes ``folder`` when the block ends well and vanishes when it does not.

    Raises:
        UserError: ``folder`` exists, or its parent cannot be written.
    """
    refuse_existing(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial"))
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror})") from error
    try:
        yield partial
        partial.chmod(0o755)
        for path in partial.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(partial)
        try:
            partial.rename(folder)
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another folder") from error
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
