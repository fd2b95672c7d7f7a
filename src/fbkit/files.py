"""Files and folders that appear whole or not at all, and are checked before they are believed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
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
        UserError: the file is missing, too large, not JSON, or not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path}: larger than {MAX_JSON_BYTES} bytes; this is not a file fbkit wrote")
        value = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(value).__name__}")
    if _deeper_than(value, MAX_JSON_DEPTH):
        raise UserError(f"{path}: nested more than {MAX_JSON_DEPTH} deep; this is not a file fbkit wrote")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _deeper_than(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    if depth == 0:
        return True
    return any(_deeper_than(item, depth - 1) for item in (value.values() if isinstance(value, dict) else value))


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
