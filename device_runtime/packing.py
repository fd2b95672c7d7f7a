"""A bundle as one file for transport, and back.

The file is a zip file: ``manifest.json``, ``signature.json`` where the bundle has one, and the files that the manifest
lists, stored as they are. The same bundle gives the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fbkit.device_runtime.bundle import Bundle, read_contents, read_file
from fbkit.device_runtime.manifest import FILE_NAME, SIGNATURE_NAME, FileEntry, parse_manifest
from fbkit.device_runtime.pte_runtime import NoRuntime
from fbkit.device_runtime.signature import MAX_BYTES, check_signature, read_signature
from fbkit.errors import UserError
from fbkit.files import MAX_JSON_BYTES, refuse_existing, whole_folder, write_atomic

_PLAIN_FILE = 0o100644 << 16
_UNIX = 3
_ENCRYPTED = 1
_CHUNK = 1024**2


def pack_bundle(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write a bundle's files, after checking them, into one new file; return its size in bytes.

    Raises:
        UserError: a file of the bundle is missing or altered, or ``out`` exists.
    """
    refuse_existing(Path(out))
    contents = read_contents(Path(folder))
    signature = read_signature(contents.folder)
    data = {
        FILE_NAME: contents.listed,
        **({} if signature is None else {SIGNATURE_NAME: signature}),
        **{name: read_file(contents.folder, contents.manifest, name) for name in contents.manifest.files},
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in data.items():
            entry = zipfile.ZipInfo(name)  # of 1980, whenever it is made
            entry.create_system, entry.external_attr = _UNIX, _PLAIN_FILE
            archive.writestr(entry, content)
    write_atomic(Path(out), packed.getvalue())
    return packed.tell()


def unpack_bundle(
    path: str | os.PathLike[str], out: str | os.PathLike[str], signed_by: str | os.PathLike[str] | None = None
) -> str | None:
    """Make a bundle folder of a packed file, check it as it is read, and open it.

    Nothing is written before the manifest and, if asked for, its signature are found good, and then exactly the files
    that the manifest lists, of the sizes that it gives.

    Args:
        path: what ``fbkit pack`` wrote.
        out: the folder to make; it appears whole or not at all.
        signed_by: as for ``Bundle.open``.

    Returns:
        None where the bundle was opened, or why it cannot be tried on this machine, which has no runtime for it.

    Raises:
        UserError: the file is not a whole packed bundle, ``out`` exists, or as ``Bundle.open``.
    """
    path, out = Path(path), Path(out)
    refuse_existing(out)
    with _reading(path):
        archive = zipfile.ZipFile(path)
    with archive:
        listed = b"".join(_chunks(archive, path, FILE_NAME, 1, MAX_JSON_BYTES))
        signature = None
        if SIGNATURE_NAME in archive.namelist():
            signature = b"".join(_chunks(archive, path, SIGNATURE_NAME, 0, MAX_BYTES))
        if signed_by is not None:
            check_signature(listed, signature, Path(signed_by), path)
        manifest = parse_manifest(listed, path / FILE_NAME)
        expected = [FILE_NAME, *([] if signature is None else [SIGNATURE_NAME]), *manifest.files]
        if sorted(archive.namelist()) != sorted(expected):
            raise _error(path, "holds other files than its manifest lists")
        with whole_folder(out) as folder:
            (folder / FILE_NAME).write_bytes(listed)
            if signature is not None:
                (folder / SIGNATURE_NAME).write_bytes(signature)
            for name, entry in manifest.files.items():
                _copy(archive, path, folder / name, entry)
            return _opened(folder, path, signed_by)


def _chunks(archive: zipfile.ZipFile, path: Path, name: str, least: int, most: int) -> Iterator[bytes]:
    """An entry's content, some at a time; its CRC-32 is verified at its end."""
    with _reading(path):
        if name not in archive.namelist():
            raise _error(path, f"has no {name}")
        entry = archive.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
            raise _error(path, f"{name} is compressed or encrypted")
        if not least <= entry.file_size <= most:
            wanted = str(most) if least == most else f"{least} to {most}"
            raise _error(path, f"{name} has {entry.file_size} bytes there, and must have {wanted}")
        with archive.open(entry) as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _copy(archive: zipfile.ZipFile, path: Path, target: Path, entry: FileEntry) -> None:
    digest = hashlib.sha256()
    with target.open("xb") as file:
        for chunk in _chunks(archive, path, target.name, entry.bytes, entry.bytes):
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() != entry.sha256:
        raise UserError(f"{path}: {target.name} was altered, its SHA-256 is not the one in {FILE_NAME}")


def _opened(folder: Path, path: Path, signed_by: str | os.PathLike[str] | None) -> str | None:
    """Open what is not in its place yet; messages name the packed file."""
    try:
        Bundle.open(folder, signed_by=signed_by)
    except NoRuntime as error:
        return str(error).removeprefix(f"{folder}: ")
    except UserError as error:
        raise UserError(str(error).replace(str(folder), str(path))) from error
    return None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever zipfile says of a damaged file, in one line."""
    try:
        yield
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error) as error:
        raise _error(path, f"is damaged, or not a file that fbkit pack made ({error})") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _error(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; get it again, as fbkit pack made it")
