"""The folder of a benchmark that takes long: made by one command, and gone on with by the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fbkit.errors import UserError
from fbkit.files import locked, read_json, write_json


@contextmanager
def folder_to_go_on(out: Path, command: str, schema: str, version: int) -> Iterator[None]:
    """Make the folder or go on with it; nobody else works in it meanwhile.

    Args:
        out: the folder; ``folder.json`` in it says whose it is.
        command: what people call it, ``fbkit bench export``.

    Raises:
        UserError: it holds something else, or another command works in it.
    """
    marker, mark = out / "folder.json", {"schema": schema, "version": version}
    if marker.exists():
        if read_json(marker) != mark:
            raise UserError(f"{marker}: not of a folder that this {command} can go on with; choose another --out")
    elif out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out}: exists and was not made by {command}; choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            write_json(marker, mark)
    except OSError as error:
        raise UserError(f"{out}: cannot be made or written ({error.strerror})") from error
    with locked(marker, command):
        yield
