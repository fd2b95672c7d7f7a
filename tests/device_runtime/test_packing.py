"""One file of a bundle and back, and files that only look like one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.demo import FOLDER
from fbkit.device_runtime.packing import pack_bundle, unpack_bundle
from fbkit.device_runtime.signing import make_keys, sign_bundle
from fbkit.errors import UserError
from tests.conftest import Outcome
from tests.device_runtime.mutations import part, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "bundle", tmp_path / "bundle"))


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Path:
    pack_bundle(folder, tmp_path / "packed")
    return tmp_path / "packed"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(packed: Path, signed_by: Path | None = None) -> str:
    """The one line that says why; nothing is left of the attempt."""
    out = packed.parent / "out"
    before = set(packed.parent.iterdir())
    with pytest.raises(UserError) as caught:
        unpack_bundle(packed, out, signed_by)
    assert set(packed.parent.iterdir()) == before
    assert str(caught.value).startswith(str(packed))
    return str(caught.value)


def test_a_bundle_comes_out_as_it_went_in(bundle_folder: Path, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    assert fbkit("pack", bundle_folder, "--out", tmp_path / "packed").code == 0
    outcome = fbkit("unpack", tmp_path / "packed", "--out", tmp_path / "again")
    assert outcome.code == 0, outcome.err
    assert "good" in outcome.out
    assert contents(tmp_path / "again") == contents(bundle_folder)
    assert all(not path.is_symlink() and path.stat().st_mode & 0o133 == 0 for path in (tmp_path / "again").iterdir())
    Bundle.open(tmp_path / "again")


def test_the_same_bundle_gives_the_same_bytes(folder: Path, packed: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "other-name"
    shutil.copytree(folder, other)
    for path in other.iterdir():
        os.utime(path, (1, 1))
        path.chmod(0o600)
    (other / "not-listed").write_text("no part of the bundle")
    pack_bundle(other, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == packed.read_bytes()


def test_other_programs_read_the_file(folder: Path, packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "manifest.json"
        assert {name: archive.read(name) for name in archive.namelist()} == contents(folder)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tqq", packed], check=True, capture_output=True)


def test_a_signature_travels_and_is_checked_first(folder: Path, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    for name in ("key", "other"):
        make_keys(tmp_path / name)
    sign_bundle(folder, tmp_path / "key")
    packed = tmp_path / "packed"
    pack_bundle(folder, packed)
    assert "signed with another key" in refused(packed, tmp_path / "other.pub")
    outcome = fbkit("unpack", packed, "--out", tmp_path / "signed", "--signed-by", tmp_path / "key.pub")
    assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "signed") == contents(folder)
    (folder / "signature.json").unlink()
    packed.unlink()
    pack_bundle(folder, packed)
    assert "signature.json: is missing" in refused(packed, tmp_path / "key.pub")


def test_what_is_there_is_not_overwritten(folder: Path, packed: Path) -> None:
    with pytest.raises(UserError, match="packed: exists already"):
        pack_bundle(folder, packed)
    with pytest.raises(UserError, match="bundle: exists already"):
        unpack_bundle(packed, folder)


def test_a_broken_bundle_is_not_packed(folder: Path, tmp_path: Path) -> None:
    path = part(folder, "head_step")
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"head_step\.onnx: has more than"):
        pack_bundle(folder, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


def test_an_altered_byte_is_found_or_changes_nothing(folder: Path, packed: Path, full: bool) -> None:
    data = packed.read_bytes()
    directory, found = data.index(b"PK\1\2"), 0
    with zipfile.ZipFile(packed) as archive:
        headers = [range(one.header_offset, one.header_offset + 30) for one in archive.infolist()]
    for place in (*range(0, directory, 29 if full else 1997), *range(directory, len(data), 1 if full else 17)):
        changed = bytearray(data)
        changed[place] ^= 0x40
        packed.write_bytes(changed)
        out = packed.parent / "out"
        try:
            unpack_bundle(packed, out)
        except UserError as error:
            assert str(error).startswith(str(packed))
            assert not out.exists()
            found += 1
        else:  # a time or an attribute, of which nothing is taken
            assert contents(out) == contents(folder)
            assert place >= directory or any(place in header for header in headers)
            shutil.rmtree(out)
    assert found > 50


def test_a_file_cut_short_is_found(packed: Path, full: bool) -> None:
    data = packed.read_bytes()
    for length in range(0, len(data), 97 if full else 9973):
        packed.write_bytes(data[:length])
        refused(packed)


Entries = list[tuple[zipfile.ZipInfo, bytes]]


def plain(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o100644 << 16
    entry.create_system = 3
    return entry


def zipped(entries: Entries, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in entries:
            archive.writestr(entry, data)


def unzipped(path: Path) -> Entries:
    with zipfile.ZipFile(path) as archive:
        return [(plain(name), archive.read(name)) for name in archive.namelist()]


def twice(entries: Entries) -> None:
    entries.append((plain("body.onnx"), b"x"))


def twice_in_place(entries: Entries) -> None:
    entries.insert(2, (plain("body.onnx"), entries[1][1]))


def one_more(entries: Entries) -> None:
    entries.append((plain("more"), b"x"))


def upwards(entries: Entries) -> None:
    entries[1] = (plain("../body.onnx"), entries[1][1])


def absolute(entries: Entries) -> None:
    entries[1] = (plain("/tmp/body.onnx"), entries[1][1])  # noqa: S108


def a_folder(entries: Entries) -> None:
    entries.insert(1, (plain("folder/"), b""))


def compressed(entries: Entries) -> None:
    entries[1][0].compress_type = zipfile.ZIP_DEFLATED


def without_a_file(entries: Entries) -> None:
    del entries[-1]


def without_a_manifest(entries: Entries) -> None:
    del entries[0]


def a_bomb(entries: Entries) -> None:
    """A hundred megabytes in a hundred kilobytes, and a manifest that says so."""
    manifest = json.loads(entries[0][1])
    manifest["files"]["body.onnx"]["bytes"] = 10**8
    entries[0] = (entries[0][0], json.dumps(manifest).encode())
    entries[1][0].compress_type = zipfile.ZIP_DEFLATED
    entries[1] = (entries[1][0], bytes(10**8))


def a_long_manifest(entries: Entries) -> None:
    entries[0] = (entries[0][0], entries[0][1] + b" " * 17 * 1024**2)


def a_nested_manifest(entries: Entries) -> None:
    entries[0] = (entries[0][0], b'{"a":' * 100_000)


def a_manifest_that_names_a_path(entries: Entries) -> None:
    manifest = json.loads(entries[0][1])
    manifest["files"]["../body.onnx"] = manifest["files"].pop("body.onnx")
    manifest["body"]["file"] = "../body.onnx"
    entries[0] = (entries[0][0], json.dumps(manifest).encode())
    entries[1] = (plain("../body.onnx"), entries[1][1])


def a_name_that_is_not_ascii(entries: Entries) -> None:
    entries[1] = (plain("bödy.onnx"), entries[1][1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (twice, "holds other files than its manifest lists"),
        (twice_in_place, "holds other files than its manifest lists"),
        (one_more, "holds other files than its manifest lists"),
        (upwards, "holds other files than its manifest lists"),
        (absolute, "holds other files than its manifest lists"),
        (a_folder, "holds other files than its manifest lists"),
        (compressed, "body.onnx is compressed or encrypted"),
        (without_a_file, "holds other files than its manifest lists"),
        (without_a_manifest, "has no manifest.json"),
        (a_bomb, "body.onnx is compressed or encrypted"),
        (a_long_manifest, "manifest.json has "),
        (a_nested_manifest, "manifest.json: not readable as JSON"),
        (a_manifest_that_names_a_path, "is not a plain file name"),
        (a_name_that_is_not_ascii, "holds other files than its manifest lists"),
    ],
)
def test_a_zip_file_of_other_contents_is_refused(packed: Path, change: Callable[[Entries], None], said: str) -> None:
    entries = unzipped(packed)
    change(entries)
    zipped(entries, packed)
    assert said in refused(packed)


def test_modes_and_links_of_the_zip_file_decide_nothing(folder: Path, packed: Path) -> None:
    entries = unzipped(packed)
    entries[1][0].external_attr = 0o120777 << 16  # a link
    entries[2][0].external_attr = 0o104777 << 16
    zipped(entries, packed)
    out = packed.parent / "out"
    unpack_bundle(packed, out)
    assert contents(out) == contents(folder)
    assert all(path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o133 == 0 for path in out.iterdir())


def test_an_encrypted_entry_is_refused(packed: Path) -> None:
    data = bytearray(packed.read_bytes())
    for header, flags in ((data.index(b"PK\3\4", 4), 6), (data.index(b"PK\1\2", data.index(b"PK\1\2") + 4), 8)):
        data[header + flags] |= 1
    packed.write_bytes(data)
    with zipfile.ZipFile(packed) as archive, pytest.raises(RuntimeError, match="encrypted"):
        archive.read("body.onnx")
    assert "body.onnx is compressed or encrypted" in refused(packed)


def test_a_file_of_the_right_size_and_crc_is_still_not_the_one_listed(packed: Path) -> None:
    entries = unzipped(packed)
    entries[1] = (entries[1][0], bytes(len(entries[1][1])))
    zipped(entries, packed)
    assert "body.onnx was altered" in refused(packed)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"PK\3\4" + b"\xff" * 26, b"PK\5\6" + bytes(18)])
def test_a_file_that_is_no_zip_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "packed").write_bytes(content)
    refused(tmp_path / "packed")


def test_a_packed_bundle_that_does_not_compute_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copy(part(folder, "head_step"), part(folder, "body"))
    seal(folder)
    pack_bundle(folder, tmp_path / "packed")
    assert refused(tmp_path / "packed").startswith(f"{tmp_path / 'packed'}: body.onnx: ")


def test_without_a_runtime_a_bundle_is_unpacked_and_called_untried(pte_bundle: Path, tmp_path: Path) -> None:
    pack_bundle(pte_bundle, tmp_path / "packed")
    # Here, and in the process that tries bundles.
    code = "import sys; sys.modules.update(dict.fromkeys(('torch', 'executorch', 'executorch_numpy_runtime')))"
    (tmp_path / "sitecustomize.py").write_text(code)
    ended = subprocess.run(
        [sys.executable, "-m", "fbkit", "unpack", tmp_path / "packed", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert ended.returncode == 0, ended.stderr
    assert "not tried here: body.pte: no runtime for .pte files is installed" in ended.stdout
    assert contents(tmp_path / "out") == contents(pte_bundle)
