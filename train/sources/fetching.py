"""Public data sets' files: found below the recipe's folder, fetched where that is asked for, else asked for."""

from __future__ import annotations

import http.client
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fbkit.errors import UserError
from fbkit.train.vision import import_torchvision

_FAILURES = (
    ImportError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    http.client.HTTPException,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Layout:
    """One way in which a data set's files may lie: all of ``names``, in one of ``folders``; any may end in a suffix."""

    folders: tuple[Path, ...]
    names: tuple[str, ...]
    suffixes: tuple[str, ...] = ("",)

    def find(self) -> tuple[Path, ...] | None:
        for folder in self.folders:
            paths = tuple(self.path(folder, name) for name in self.names)
            if all(paths):
                return tuple(path for path in paths if path)
        return None

    def path(self, folder: Path, name: str) -> Path | None:
        """Where a file is, if it is there."""
        return next((path for suffix in self.suffixes if (path := folder / f"{name}{suffix}").is_file()), None)


def find_files(
    title: str, layouts: Sequence[Layout], download: bool, fetch: Callable[[Any], object]
) -> tuple[Layout, tuple[Path, ...]]:
    """The first layout that is there, and its files, in the order of its names.

    Args:
        title: the data set, in messages.
        fetch: called with the module torchvision where nothing is there and ``download`` is true.

    Raises:
        UserError: not there, and fetching was not asked for or failed.
    """
    found = _first(layouts)
    reason = "; data.download = true would fetch them"
    if not found and download:
        try:
            fetch(import_torchvision())
        except _FAILURES as error:
            reason = f"; fetching them failed ({error})"
        else:
            reason = "; what was fetched is not that"
        found = _first(layouts)
    if found:
        return found
    places = [(layout, folder) for layout in layouts for folder in layout.folders]
    expected, folder = max(
        places, key=lambda place: sum(bool(place[0].path(place[1], name)) for name in place[0].names)
    )
    missing = next(name for name in expected.names if not expected.path(folder, name))
    others = ", ".join(name for name in expected.names if name != missing)
    raise UserError(f"{folder / missing}: no such file; {title} needs it beside {others}{reason}")


def _first(layouts: Sequence[Layout]) -> tuple[Layout, tuple[Path, ...]] | None:
    for layout in layouts:
        paths = layout.find()
        if paths:
            return layout, paths
    return None
