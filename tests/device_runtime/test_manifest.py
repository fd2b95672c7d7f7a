from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fbkit.device_runtime.manifest import Defaults, read_manifest
from fbkit.errors import UserError
from tests.conftest import Outcome

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def version1(tmp_path: Path) -> Path:
    """A bundle folder as fbkit 0.1.0 wrote it."""
    return Path(shutil.copytree(FIXTURES / "bundle-v1", tmp_path / "bundle"))


@pytest.fixture
def folder(version1: Path) -> Path:
    """The same folder with a manifest of version 2, which has every field."""
    path = version1 / "manifest.json"
    value = json.loads(path.read_text())
    value["version"] = 2
    value["head_step"]["classes"] = 14
    value["personalization"] = {"epochs": 7, "lr": 0.02, "momentum": 0.8, "batch_size": 20, "penalty": 3.0}
    value["graph"] = {"operators": {"Conv": 4}}
    value["model"] = {"file": "model.onnx"}
    value["training_module"] = {"file": "training.pte"}
    for name in ("model.onnx", "training.pte"):
        value["files"][name] = {"bytes": 3, "sha256": "0" * 64}
    path.write_text(json.dumps(value))
    return version1


def test_every_field_of_version_2_is_read(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.version == 2
    assert manifest.step_classes == 14
    assert manifest.personalization == Defaults(epochs=7, lr=0.02, momentum=0.8, batch_size=20, penalty=3.0)
    assert manifest.graph == {"operators": {"Conv": 4}}
    assert (manifest.model, manifest.training_module) == ("model.onnx", "training.pte")


def test_version_1_is_read_with_what_it_did_not_say_yet(version1: Path) -> None:
    manifest = read_manifest(version1)
    assert manifest.version == 1
    assert manifest.step_classes == len(manifest.classes) == 10
    assert manifest.personalization == Defaults()
    assert manifest.graph == {}
    assert manifest.model is manifest.training_module is None


def test_both_optional_files_may_be_left_out(folder: Path) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    del value["model"], value["training_module"]
    path.write_text(json.dumps(value))
    manifest = read_manifest(folder)
    assert manifest.model is manifest.training_module is None
    assert "model" not in manifest.to_json()


@pytest.mark.parametrize("version", ["version1", "folder"])
def test_a_manifest_survives_being_written(version: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(version)
    manifest = read_manifest(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()))
    assert read_manifest(folder) == manifest


def test_the_identity_is_of_what_decides_a_prediction(folder: Path) -> None:
    manifest = read_manifest(folder)
    value = manifest.to_json()
    value["provenance"] = {"other": 1}
    value["graph"] = {}
    value["personalization"]["lr"] = 0.5
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
        (put("version", value=3), "version is 3, this fbkit reads versions up to 2; upgrade"),
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
        (put("precision", value="fp16"), "precision is 'fp16'; known: fp32, int8"),
        (drop("personalization"), "personalization is missing"),
        (drop("graph"), "graph is missing"),
        (put("graph", value=[]), "graph must be an object"),
        (put("head_step", "classes", value=9), "head_step.classes must be a whole number from 10 to"),
        (put("personalization", "epochs", value=0), "personalization.epochs must be a whole number from 1"),
        (put("personalization", "lr", value=0), "personalization.lr must be a finite number above 0"),
        (put("personalization", "penalty", value=-1), "personalization.penalty must be a finite number above 0"),
        (put("personalization", "momentum", value=1), "personalization.momentum must be at least 0 and below 1"),
        (put("personalization", "batch_size", value=1.5), "personalization.batch_size must be a whole number"),
        (put("model", "file", value="other.onnx"), "files lacks other.onnx"),
        (put("training_module", value={}), "training_module.file is missing"),
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


def test_inspect_shows_every_value_and_none_acts_on_the_terminal(folder: Path, fbkit: Callable[..., Outcome]) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    value["graph"] = {"operators": {"Conv": 4}, "macs": 1234567, "empty": {}}
    value["provenance"] = {"\x1b[2J": "[red]:smile:\x1b[31m", "recipe": {"data": {"size": 28}}, "list": [{"a": 1}]}
    path.write_text(json.dumps(value))
    outcome = fbkit("inspect", folder)
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    for shown in (
        "operators.Conv 4",
        "macs 1,234,567",
        "empty {}",
        "recipe.data.size 28",
        'list.0 {"a": 1}',
        "\\u001b[2J [red]:smile:\\u001b[31m",
        "lr 0.02",
        "decided_agreement 100.0",
        "head's step: batches of 50, 14 classes (4 spare)",
    ):
        assert shown in lines, outcome.out
    assert json.loads(fbkit("inspect", folder, "--json").out) == value | {"identity": read_manifest(folder).identity}


def test_an_int8_body_may_differ_by_more(folder: Path) -> None:
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    value["precision"], value["probe"]["tolerance"] = "int8", 0.1
    path.write_text(json.dumps(value))
    assert read_manifest(folder).feature_tolerance == 0.1
    value["probe"]["tolerance"] = 0.11
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=r"probe\.tolerance must be at most 0\.1"):
        read_manifest(folder)


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
