"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fbkit.errors import UserError, require
from fbkit.files import read_json, whole_folder, write_atomic, write_json


def test_a_folder_appears_only_when_its_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with whole_folder(target) as partial:
        (partial / "file").write_text("whole")
        assert not target.exists()
    assert (target / "file").read_text() == "whole"
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "other") as partial:
        (partial / "file").write_text("half")
        raise KeyboardInterrupt
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(UserError, match=r"cannot be made \(Directory not empty"), whole_folder(target) as partial:
        (partial / "file").write_text("mine")
        target.mkdir()
        (target / "file").write_text("theirs")
    assert (target / "file").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_exists_is_refused_even_when_empty(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"), whole_folder(tmp_path):
        pass


def test_a_dangling_link_is_something_that_exists(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="exists already"), whole_folder(tmp_path / "link"):
        pass


def test_a_failed_write_keeps_the_old_file_and_leaves_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    code = (
        "import resource, signal, sys; from pathlib import Path; from fbkit.files import write_atomic\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"write_atomic(Path({str(path)!r}), b'x' * 5000)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "OSError" in result.stderr
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == limit


def test_json_round_trip_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2.5]})
    assert read_json(path) == {"a": [1, 2.5]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": [1, 2.5]}
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "none.json")


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(UserError, match=r"'nonexistent_package'.*pip install 'fbkit\[train\]'"):
        require("nonexistent_package", "train")
