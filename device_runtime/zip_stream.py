"""The one kind of zip file that ``fbkit pack`` writes and ``fbkit unpack`` reads, for which nothing has to be guessed.

Entries are stored, not compressed, one after the other from the first byte of the file. Each header gives size and
CRC-32; the time is the first that zip knows, 1980-01-01, the mode that of a plain file. The directory follows, which
says the same again, and then nothing. So equal contents give equal bytes, and any zip program opens them. The reader
makes each header anew from what it found and compares: what is a link, encrypted, compressed, there twice or not in the
directory has another header, and no rule of its own.

Format: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory) and 4.3.16 (its end).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fbkit.errors import UserError

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_END = struct.Struct("<4sHHHHIIH")
_LOCAL_MARK = b"PK\3\4"
_VERSION = 20  # the oldest that has folders and plain storage
_UNIX = 3 << 8
_PLAIN_FILE = 0o100644 << 16
_TIME, _DATE = 0, 1 << 5 | 1  # midnight; year 0 (1980), month 1, day 1
_MOST_BYTES, _MOST_ENTRIES = 2**32 - 1, 2**16 - 1
_CHUNK = 1024**2


@dataclass(frozen=True)
class _Entry:
    name: bytes
    crc: int
    size: int
    offset: int

    def local_header(self) -> bytes:
        sizes = (self.crc, self.size, self.size, len(self.name), 0)
        return _LOCAL.pack(_LOCAL_MARK, _VERSION, 0, 0, _TIME, _DATE, *sizes) + self.name

    def central_header(self) -> bytes:
        sizes = (self.crc, self.size, self.size, len(self.name), 0, 0)
        made_by = (_UNIX | _VERSION, _VERSION)
        place = (0, 0, _PLAIN_FILE, self.offset)
        return _CENTRAL.pack(b"PK\1\2", *made_by, 0, 0, _TIME, _DATE, *sizes, *place) + self.name


def _directory(entries: list[_Entry], offset: int) -> bytes:
    headers = b"".join(entry.central_header() for entry in entries)
    return headers + _END.pack(b"PK\5\6", 0, 0, len(entries), len(entries), len(headers), offset, 0)


def zip_bytes(contents: dict[str, bytes]) -> bytes:
    """A zip file of ``contents``, in their order; names are ASCII.

    Raises:
        UserError: they are too large for the format.
    """
    parts: list[bytes] = []
    entries: list[_Entry] = []
    offset = 0
    for name, data in contents.items():
        entry = _Entry(name.encode("ascii"), zlib.crc32(data), len(data), offset)
        entries.append(entry)
        parts += [entry.local_header(), data]
        offset += len(parts[-2]) + len(data)
        if offset > _MOST_BYTES or len(entries) > _MOST_ENTRIES:
            raise UserError(f"too large for a zip file, which holds at most {_MOST_BYTES} bytes")
    return b"".join([*parts, _directory(entries, offset)])


class ZipReader:
    """Reads such a file once, from its start to its end; ``origin`` is for messages."""

    def __init__(self, file: BinaryIO, origin: Path) -> None:
        self._file, self._origin = file, origin
        self._entries: list[_Entry] = []
        self._offset = 0

    def next_name(self) -> str:
        """The name that stands in the next entry's header.

        Raises:
            UserError: no entry follows.
        """
        entry, _ = self._read_header()
        self._file.seek(self._offset)
        return entry.name.decode("ascii", "replace")

    def chunks(self, name: str, least: int, most: int) -> Iterator[bytes]:
        """The content of the next entry, some at a time; it is verified when the last has been taken.

        Raises:
            UserError: the entry is not called ``name``, has less than ``least`` or more than ``most`` bytes, or is not
                as ``zip_bytes`` writes it.
        """
        entry, header = self._read_header()
        if entry.name != name.encode():
            raise self._error(f"holds {entry.name.decode('ascii', 'replace')!r} where {name} must be")
        if not least <= entry.size <= most:
            wanted = str(most) if least == most else f"{least} to {most}"
            raise self._error(f"{name} has {entry.size} bytes there, and must have {wanted}")
        if self._offset + len(header) + entry.size > _MOST_BYTES or len(self._entries) == _MOST_ENTRIES:
            raise self._error("is larger than a zip file can be")
        if header != entry.local_header():
            raise self._error(f"{name} is compressed, encrypted, or stored in another way than fbkit pack stores it")
        crc, left = 0, entry.size
        while left:
            chunk = self._exactly(min(_CHUNK, left))
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
            yield chunk
        if crc != entry.crc:
            raise self._error(f"{name} was damaged, its CRC-32 is another")
        self._entries.append(entry)
        self._offset += len(header) + entry.size

    def finish(self) -> None:
        """Check that the directory of the entries read follows, and nothing else.

        Raises:
            UserError: it does not.
        """
        expected = _directory(self._entries, self._offset)
        if self._file.read(len(expected) + 1) != expected:
            raise self._error("its directory does not list just the files that the bundle has")

    def _read_header(self) -> tuple[_Entry, bytes]:
        """The next entry as its header has it, and the header, of which nothing else was looked at."""
        fixed = self._exactly(_LOCAL.size)
        mark, *_, crc, _, size, length, _ = _LOCAL.unpack(fixed)
        if mark != _LOCAL_MARK:
            raise self._error("not a file that fbkit pack made, or one that lacks files of the bundle")
        name = self._exactly(length)
        return _Entry(name, crc, size, self._offset), fixed + name

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise self._error("is cut short")
        return data

    def _error(self, what: str) -> UserError:
        return UserError(f"{self._origin}: {what}; get it again, as fbkit pack made it")
