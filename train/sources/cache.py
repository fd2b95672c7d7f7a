"""Decoded pictures on disk: made once for a key, then mapped into memory, so that they may be more than memory holds.

CACHE/fbkit/pictures/KEY/images.npy    uint8 [N, channels, height, width]; zeros where a picture is broken
                         sums.npy      int64 [N, channels, 2], each picture's sums (see ``channel_sums``)
                         index.json    which pictures are broken, and why the first of them is

Processes that want the same pictures take turns, and all but the first find them made.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fbkit.console import Reporter
from fbkit.errors import UserError
from fbkit.files import in_turn, read_json, whole_folder, write_json
from fbkit.train.sources.assembling import channel_sums
from fbkit.train.workers import usable_cores

VERSION = 1

Result = TypeVar("Result")
Shape = tuple[int, int, int]
Bytes = NDArray[np.uint8]

_BLOCK = 1024  # pictures handed to the threads at a time


@dataclass(frozen=True)
class Cached:
    """images: mapped, uint8 [N, C, H, W]; sums: int64 [N, C, 2]; broken: their rows; reason: what is wrong first."""

    images: Bytes
    sums: NDArray[np.int64]
    broken: tuple[int, ...]
    reason: str


def cache_folder() -> Path:
    """Where decoded pictures are kept: below $XDG_CACHE_HOME, or ~/.cache.

    Raises:
        UserError: there is no home folder.
    """
    asked = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        home = Path(asked).expanduser()
        return (home if home.is_absolute() else Path("~/.cache").expanduser()) / "fbkit" / "pictures"
    except RuntimeError as error:
        raise UserError(
            f"{asked}: no home folder is known to keep decoded pictures in; set XDG_CACHE_HOME to a folder, "
            "its path in full"
        ) from error


def in_threads(function: Callable[[int], Result], count: int) -> Iterator[Result]:
    """``function`` of 0, 1, ... count - 1, in that order, computed on all cores."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        for first in range(0, count, _BLOCK):
            yield from pool.map(function, range(first, min(first + _BLOCK, count)))


def cached_pictures(
    key: str, count: int, shape: Shape, make: Callable[[int], Bytes | str], reporter: Reporter, stage: str
) -> Cached:
    """The pictures of ``key``, made where they are not there yet, or are damaged.

    Args:
        make: called from several threads; gives a row's picture, uint8 [C, H, W], or says why it is broken.

    Raises:
        UserError: the cache cannot be written; and what ``make`` raises, after which nothing is kept.
    """
    folder = cache_folder() / key
    found = _open(folder, count, shape)
    if found:
        return found

    def say_waiting() -> None:
        reporter.line(f"{stage}: another process does it, waiting for it")

    try:
        _check_writable(folder.parent)
        with in_turn(folder.parent / f".{key}.lock", say_waiting):
            return _opened_or_made(folder, count, shape, make, reporter, stage)
    except OSError as error:
        raise UserError(
            f"{folder.parent}: the cache of decoded pictures cannot be written ({error.strerror}); "
            "make room, or set XDG_CACHE_HOME to another folder"
        ) from error


def _opened_or_made(
    folder: Path, count: int, shape: Shape, make: Callable[[int], Bytes | str], reporter: Reporter, stage: str
) -> Cached:
    for _ in range(3):  # again only where there are no locks, and another process makes or removes the same folder
        found = _open(folder, count, shape)
        if found:
            return found
        _set_aside(folder)
        try:
            with whole_folder(folder) as partial:
                _make(partial, count, shape, make, reporter, stage)
        except UserError:
            if not folder.exists():
                raise
    raise UserError(f"{folder}: changes while it is being used; remove it and try again")


def _open(folder: Path, count: int, shape: Shape) -> Cached | None:
    """What is there, if it is whole; None if nothing is, or something damaged."""
    try:
        images = _map(folder / "images.npy", np.uint8, (count, *shape))
        sums = _map(folder / "sums.npy", np.int64, (count, shape[0], 2))
        index = read_json(folder / "index.json")
        broken, reason = tuple(index["broken"]), str(index["reason"])
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None
    if not all(type(row) is int and 0 <= row < count for row in broken):
        return None
    rows = np.unique(np.linspace(0, count - 1, 16).astype(np.int64))  # a glance at the values themselves
    if not np.array_equal(channel_sums(images[rows]), sums[rows]):
        return None
    return Cached(images, sums, broken, reason)


def _map(path: Path, kind: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Map an array that must have exactly this type and shape; raise ValueError where it has not."""
    header = _header(kind, shape)
    with path.open("rb") as file:
        if file.read(len(header)) != header:
            raise ValueError("another header")
    if path.stat().st_size != len(header) + math.prod(shape) * np.dtype(kind).itemsize:
        raise ValueError("another length")
    mapped: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return mapped


def _header(kind: type[Any], shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _check_writable(folder: Path) -> None:
    """Raise the OSError that ``whole_folder`` would tell without saying that it is about the cache."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryDirectory(dir=folder, prefix=".").cleanup()


def _set_aside(folder: Path) -> None:
    """Remove a damaged entry; by a rename first, so that nobody sees half of it."""
    if folder.exists():
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".damaged"))
        with suppress(FileNotFoundError):  # another process was faster
            folder.rename(aside / folder.name)
        shutil.rmtree(aside, ignore_errors=True)


def _make(
    folder: Path, count: int, shape: Shape, make: Callable[[int], Bytes | str], reporter: Reporter, stage: str
) -> None:
    sums = np.zeros((count, shape[0], 2), np.int64)
    broken: dict[int, str] = {}
    header, size = _header(np.uint8, (count, *shape)), math.prod(shape)
    # Written, not mapped: a full disk is then an error that can be caught.
    with (folder / "images.npy").open("wb") as file:
        file.write(header)
        file.truncate(len(header) + count * size)

        def fill(row: int) -> None:
            pixels = make(row)
            if isinstance(pixels, str):
                broken[row] = pixels
                return
            sums[row] = channel_sums(pixels[np.newaxis])[0]
            _write_at(file.fileno(), pixels.tobytes(), len(header) + row * size)

        # The decoder silences warnings, which is for all threads at once: restore them when all are done.
        with warnings.catch_warnings(), reporter.stage(stage, count) as advance:
            for _ in in_threads(fill, count):
                advance("")
    np.save(folder / "sums.npy", sums)
    rows = sorted(broken)
    write_json(folder / "index.json", {"broken": rows, "reason": broken[rows[0]] if rows else ""})


def _write_at(descriptor: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, place)
        view, place = view[written:], place + written
