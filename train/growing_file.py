"""A file that others follow while it grows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class GrowingFile:
    """Appends to a file, made where it is missing; what ``write`` was given is seen by readers when it returns.

    Raises:
        OSError: from all methods; it names the file, which an error of a full disk alone does not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        with self._named():
            while rest:
                rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """Return when all that was written would outlive a power cut."""
        with self._named():
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._named():
            self._file.close()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            error.filename = str(self._path)
            raise
