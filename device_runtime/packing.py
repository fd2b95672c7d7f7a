"""A bundle as one file for transport, and back.

The file is a zip file of one exact form (``zip_stream.py``): first ``manifest.json``, then ``signature.json`` where the
bundle has one, then the files that the manifest lists, in its order. The same bundle gives the same bytes everywhere.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from fbkit.device_runtime.bundle import Bundle, naming, read_contents, read_file
from fbkit.device_runtime.manifest import FILE_NAME, SIGNATURE_NAME, FileEntry, parse_manifest
from fbkit.device_runtime.pte_runtime import NoRuntime
from fbkit.device_runtime.signature import MAX_BYTES, check_signature, read_signature
from fbkit.device_runtime.zip_stream import ZipReader, zip_bytes
from fbkit.errors import UserError
from fbkit.files import MAX_JSON_BYTES, refuse_existing, whole_folder, write_atomic


def pack_bundle(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> int:
    """Write a bundle's files, after checking them, into one new file; return its size in bytes.

    Raises:
        UserError: a file of the bundle is missing or altered, ``out`` exists, or the bundle is above 4 GiB.
    """
    refuse_existing(Path(out))
    contents = read_contents(Path(folder))
    signature = read_signature(contents.folder)
    data = {
        FILE_NAME: contents.listed,
        **({} if signature is None else {SIGNATURE_NAME: signature}),
        **{name: read_file(contents.folder, contents.manifest, name) for name in contents.manifest.files},
    }
    with naming(contents.folder):
        packed = zip_bytes(data)
    write_atomic(Path(out), packed)
    return len(packed)


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
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        reader = ZipReader(file, path)
        listed = b"".join(reader.chunks(FILE_NAME, 1, MAX_JSON_BYTES))
        signature = None
        if reader.next_name() == SIGNATURE_NAME:
            signature = b"".join(reader.chunks(SIGNATURE_NAME, 0, MAX_BYTES))
        if signed_by is not None:
            check_signature(listed, signature, Path(signed_by), path)
        manifest = parse_manifest(listed, path / FILE_NAME)
        with whole_folder(out) as folder:
            (folder / FILE_NAME).write_bytes(listed)
            if signature is not None:
                (folder / SIGNATURE_NAME).write_bytes(signature)
            for name, entry in manifest.files.items():
                _copy(reader, folder / name, entry, path)
            reader.finish()
            return _opened(folder, path, signed_by)


def _copy(reader: ZipReader, target: Path, entry: FileEntry, path: Path) -> None:
    digest = hashlib.sha256()
    with target.open("xb") as file:
        for chunk in reader.chunks(target.name, entry.bytes, entry.bytes):
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
