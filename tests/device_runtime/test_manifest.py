from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fbkit.device_runtime.demo import FOLDER
from fbkit.device_runtime.manifest import read_manifest
from fbkit.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "bundle", tmp_path / "bundle"))


def test_a_manifest_survives_being_written(folder: Path) -> None:
    manifest = read_manifest(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()))
    assert read_manifest(folder) == manifest


def test_the_identity_is_of_what_decides_a_prediction(folder: Path) -> None:
    manifest = read_manifest(folder)
    value = manifest.to_json()
    value["provenance"] = {"other": 1}
    (folder / "manifest.json").write_text(json.dumps(value))
    assert read_manifest(folder).identity == manifest.identity
    value["input"]["mean"] = [0.5]
    (folder / "manifest.json").write_text(json.dumps(value))
    assert read_manifest(folder).identity != manifest.identity


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        target = manifest
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


def drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest.__delitem__(key)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("schema", value="other"), "schema must be 'fbkit.bundle'"),
        (put("version", value=2), "version is 2, this fbkit reads version 1; upgrade"),
        (put("version", value=True), "version must be a whole number"),
        (put("target", value="tflite"), "target is 'tflite'; known: onnx, executorch"),
        (drop("classes"), "classes is missing"),
        (put("classes", value=["a"]), "classes must be a list of 2 to"),
        (put("classes", value=["a", "../b"]), "'../b', which cannot name a folder"),
        (put("classes", value=["a", "b\n"]), "which cannot name a folder"),
        (put("classes", value=["a", "a"]), "classes holds a name twice"),
        (put("input", value=3), "input must be an object"),
        (put("input", "channels", value=0), "input.channels must be a whole number from 1"),
        (put("input", "height", value=10**9), "input.height must be a whole number"),
        (put("input", "mean", value=[0.1, 0.2]), "input.mean must be a list of 1 numbers"),
        (put("input", "std", value=[0]), "input.std must be a finite number above 1e-06"),
        (put("precision", value="\x1b[2J"), "precision must be a printable text"),
        (put("precision", value="\ud800"), "precision must be a printable text"),
        (put("features", value="many"), "features must be a whole number"),
        (put("body", "file", value="other.onnx"), "files lacks other.onnx"),
        (put("body", "batch_sizes", value=[1]), "body.batch_sizes must be empty for onnx"),
        (put("target", value="executorch"), "body.batch_sizes must hold 1"),
        (put("probe", "tolerance", value=0), "probe.tolerance must be a finite number above 0"),
        (put("probe", "tolerance", value=0.1), "probe.tolerance must be at most 0.01"),
        (put("input", "mean", value=[10**400]), "input.mean must be a finite number"),
        (put("input", "channels", value=2), "input.channels must be 1 (grey) or 3 (RGB)"),
        (put("classes", value=["a", ".b"]), "'.b', which cannot name a folder"),
        (put("files", "../x", value={"bytes": 1, "sha256": "0" * 64}), "files.../x is not a plain file name"),
        (put("files", "body.onnx", value={"bytes": 1}), "files.body.onnx.sha256 is missing"),
        (put("files", "body.onnx", value={"bytes": 1, "sha256": "xyz"}), "must be 64 hexadecimal digits"),
        (put("files", "body.onnx", value={"bytes": 10**15, "sha256": "0" * 64}), "bytes must be a whole number"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(
    folder: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(UserError) as caught:
        read_manifest(folder)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not readable as JSON"),
        (b"[]", "expected a JSON object"),
        (b"\xff\xfe", "not readable as JSON"),
        (b'{"a":' * 100_000, "not readable as JSON"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "nested more than 32 deep"),
        (b'{"provenance": {"x": NaN}}', "not readable as JSON"),
        (b" " * (17 * 1024 * 1024), "larger than"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(folder: Path, content: bytes, said: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a bundle, it has no manifest"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match="no such bundle folder"):
        read_manifest(tmp_path / "none")
