"""Files onto a device: only those that it lacks, each checked there, and folders that appear whole.

In fbkit's folder there, ``store/SHA256`` is a file's content and ``incoming/SHA256`` one on its way. A folder is put
together of links to the store, beside its place, and renamed.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from fbkit.device_runtime.remote.link import Link, script
from fbkit.errors import UserError
from fbkit.files import sha256_bytes, sha256_file

_ROOM = 1.1  # of what is to be sent must be free
_TOGETHER = 4_000_000  # bytes in one go


@dataclass(frozen=True)
class Shipped:
    """files: how many there are; sent, held: bytes that went, and that were there."""

    files: int
    sent: int
    held: int

    def __add__(self, other: Shipped) -> Shipped:
        return Shipped(self.files + other.files, self.sent + other.sent, self.held + other.held)


NOTHING = Shipped(0, 0, 0)


def digest_of(digests: Mapping[str, str]) -> str:
    """Of a folder: what is in it, by name."""
    return sha256_bytes("".join(f"{name}\0{digests[name]}\0" for name in sorted(digests)).encode())


def digests_of(files: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256 of each file, by its name there.

    Raises:
        UserError: one cannot be read.
    """
    try:
        return {name: sha256_file(path) for name, path in files.items()}
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error


def ship_folder(
    link: Link,
    root: str,
    files: Mapping[str, Path],
    place: str,
    free: int,
    say: Callable[[str], None],
) -> Shipped:
    """Make the folder ``root/place`` there of these files, by their names in it; one that is there and whole stays.

    Args:
        root: fbkit's folder there.
        files: names there (with ``/`` for folders in it) and files here.
        free: bytes of room there.
        say: is told of each file that goes.

    Raises:
        UserError: a file cannot be read, there is no room, or the device fails.
    """
    digests = digests_of(files)
    paths = {digests[name]: path for name, path in files.items()}
    sizes = {digest: path.stat().st_size for digest, path in paths.items()}
    held = _held(link, root, sorted(paths))
    missing = [digest for digest in paths if digest not in held]
    needed = sum(sizes[digest] for digest in missing)
    if needed * _ROOM > free:
        raise UserError(f"{link.name}: {needed} bytes are to be sent, and only {free} are free in {root}")
    sent = 0
    for batch in _batches(missing, sizes):
        what = paths[batch[0]].name if len(batch) == 1 else f"{len(batch)} files"
        say(f"sending {what}, {sum(sizes[digest] for digest in batch):,} bytes")
        if len(batch) == 1:
            sent += _send(link, root, paths[batch[0]], batch[0], sizes[batch[0]])
        else:
            sent += _send_together(link, root, {digest: paths[digest] for digest in batch})
    _assemble(link, root, digests, {name: bool(path.stat().st_mode & 0o100) for name, path in files.items()}, place)
    return Shipped(len(files), sent, sum(sizes[digest] for digest in held))


def _held(link: Link, root: str, digests: list[str]) -> set[str]:
    """Those that the store holds, whole."""
    lines = [f"mkdir -p {quote(root)}/store {quote(root)}/incoming", f"cd {quote(root)}/store", "exec 2>/dev/null"]
    lines += [f"[ ! -f {digest} ] || sha256sum {digest}" for digest in digests]
    found = re.findall(r"^([0-9a-f]{64})  ([0-9a-f]{64})$", script(link, lines, "look at what is there"), re.MULTILINE)
    return {name for digest, name in found if digest == name}


def _batches(digests: list[str], sizes: Mapping[str, int]) -> list[list[str]]:
    """Small files go together, as each way there and back takes time; large ones alone, so that they can be resumed."""
    batches, size = [], _TOGETHER
    for digest in sorted(digests, key=lambda digest: sizes[digest]):
        size += sizes[digest]
        if size > _TOGETHER:
            batches.append(list[str]())
            size = sizes[digest]
        batches[-1].append(digest)
    return batches


def _send_together(link: Link, root: str, paths: Mapping[str, Path]) -> int:
    """Files by their digests; return how many bytes went."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for digest, path in paths.items():
            content = path.read_bytes()
            entry = tarfile.TarInfo(digest)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    ended = link.run(["tar", "-xf", "-", "-C", f"{root}/incoming"], packed.getvalue())
    if ended.code or _accept(link, root, paths) != set(paths):
        reason = ended.err.partition("\n")[0] or "try again"
        raise UserError(f"{link.name}: {len(paths)} files did not arrive whole ({reason})")
    return len(packed.getvalue())


def _send(link: Link, root: str, path: Path, digest: str, size: int) -> int:
    """One file, from where an interrupted copy of it ended; return how many bytes went."""
    place = f"{root}/incoming/{digest}"
    lines = [f"cd {quote(root)}/incoming", f"[ ! -f {digest} ] || wc -c <{digest}"]
    begun = script(link, lines, "look at what is there").strip()
    held = int(begun) if begun.isdigit() and int(begun) < size else 0
    sent = link.send(path, place, held)
    if not _accept(link, root, [digest]):
        sent += link.send(path, place, 0)  # what was left there was not the start of this
        if not _accept(link, root, [digest]):
            raise UserError(f"{link.name}: {path.name}: did not arrive whole; is the disk there full or broken?")
    return sent


def _accept(link: Link, root: str, digests: Iterable[str]) -> set[str]:
    """Into the store with those that are what they should be; the others are removed. Return the former."""
    lines = [f"cd {quote(root)}/incoming", "sync"]
    for digest in digests:
        lines += [
            f'if [ "$(sha256sum <{digest} | cut -d " " -f 1)" = {digest} ]; then',
            f"mv {digest} ../store/{digest}; echo {digest}; else rm -f {digest}; fi",
        ]
    return set(script(link, lines, "keep what was sent").split())


def _assemble(link: Link, root: str, digests: Mapping[str, str], executable: Mapping[str, bool], place: str) -> None:
    folder = quote(f"{root}/{place}")
    partial = quote(f"{root}/{place}.partial")
    lines = ["is_whole() {"]
    lines += [
        f'[ "$(sha256sum <./{quote(name)} | cut -d " " -f 1)" = {digests[name]} ] || return 1' for name in digests
    ]
    lines += ["}", f"if [ -e {folder} ]; then cd {folder}; if is_whole 2>/dev/null; then exit 0; fi; fi"]
    lines += [f"rm -rf {partial}", f"mkdir -p {partial}", f"cd {partial}"]
    lines += [f"mkdir -p ./{quote(parent)}" for parent in sorted({str(Path(name).parent) for name in digests} - {"."})]
    for name, digest in digests.items():
        stored = f"{quote(root)}/store/{digest}"
        if executable[name]:  # a link would lend its mode to others of the same content
            lines.append(f"cp {stored} ./{quote(name)} && chmod 755 ./{quote(name)}")
        else:
            lines.append(f"ln {stored} ./{quote(name)} 2>/dev/null || cp {stored} ./{quote(name)}")
    lines += [f"rm -rf {folder}", f"mv {partial} {folder}"]
    script(link, lines, f"make {place}")
