"""The trial of a bundle that this machine does not know, and what is remembered of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import compose, helper, numpy_helper
from torch import from_numpy, nn

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.checking import check_bundle
from fbkit.device_runtime.demo import FOLDER
from fbkit.errors import UserError
from fbkit.export.training_module import lower_training_module
from tests.device_runtime.mutations import endless_loop, endless_memory, part, seal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER / "bundle", tmp_path / "bundle"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder that is empty; verdicts come into ``fbkit/verdicts``."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a shell script in the place of the Python that runs trials; returns a file to which it can write."""

    def replace(script: str) -> Path:
        program, notes = tmp_path / "python", tmp_path / "notes"
        program.write_text(f"#!/bin/sh\nnotes={notes}\nreal={sys.executable}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return notes

    return replace


COUNTING = 'echo started >> "$notes"; exec "$real" "$@"'


def trials(notes: Path) -> int:
    return notes.read_text().count("started") if notes.exists() else 0


def refused(folder: Path) -> str:
    """The one line that says why a bundle does not open, within 5 seconds."""
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        Bundle.open(folder)
    assert time.monotonic() - started < 5
    return str(caught.value)


def test_a_bundle_is_tried_once_for_its_exact_bytes(
    folder: Path, cache: Path, python: Callable[[str], Path], tmp_path: Path
) -> None:
    notes = python(COUNTING)
    Bundle.open(folder)
    assert trials(notes) == 1
    Bundle.open(folder)
    Bundle.open(shutil.copytree(folder, tmp_path / "copy"))
    assert trials(notes) == 1
    verdicts = cache / "fbkit" / "verdicts"
    assert verdicts.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in verdicts.iterdir()] == [0o600]
    value = json.loads((folder / "manifest.json").read_text())
    value["provenance"]["seed"] = 12345
    (folder / "manifest.json").write_text(json.dumps(value))
    Bundle.open(folder)
    assert trials(notes) == 2


def test_what_was_found_good_is_still_checked_byte_by_byte(folder: Path) -> None:
    Bundle.open(folder)
    for role in ("body", "head_step"):
        path = part(folder, role)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert "was altered" in refused(folder)
        path.write_bytes(data)


@pytest.mark.usefixtures("cache")
def test_another_runtime_is_another_trial(
    folder: Path, python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = python(COUNTING)
    Bundle.open(folder)
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "0.0.1")
    Bundle.open(folder)
    assert trials(notes) == 2


def open_to_others(verdicts: Path) -> None:
    verdicts.chmod(0o777)


def somebody_elses(verdicts: Path) -> None:
    os.chown(verdicts, 12345, 12345)


def a_link(verdicts: Path) -> None:
    verdicts.rename(verdicts.parent / "real")
    verdicts.symlink_to(verdicts.parent / "real")


def a_file(verdicts: Path) -> None:
    shutil.rmtree(verdicts)
    verdicts.touch()


def forged(verdicts: Path) -> None:
    (path,) = verdicts.iterdir()
    path.write_text("{}")


def linked_verdict(verdicts: Path) -> None:
    (path,) = verdicts.iterdir()
    path.symlink_to(path.rename(verdicts / "elsewhere"))


@pytest.mark.parametrize("change", [open_to_others, somebody_elses, a_link, a_file, forged, linked_verdict])
def test_a_verdict_that_somebody_else_could_have_made_counts_for_nothing(
    folder: Path, cache: Path, python: Callable[[str], Path], change: Callable[[Path], None]
) -> None:
    if change is somebody_elses and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    notes = python(COUNTING)
    Bundle.open(folder)
    change(cache / "fbkit" / "verdicts")
    Bundle.open(folder)
    assert trials(notes) == 2


@pytest.mark.parametrize("home", ["/proc/nowhere", "", "relative"])
def test_where_nothing_can_be_remembered_a_bundle_opens_all_the_same(
    folder: Path, python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, home: str, tmp_path: Path
) -> None:
    notes = python(COUNTING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    monkeypatch.setenv("HOME", "/proc/nowhere")
    Bundle.open(folder)
    Bundle.open(folder)
    assert trials(notes) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "notes", "python"]


def test_a_refused_bundle_is_not_remembered(folder: Path, cache: Path) -> None:
    shutil.copy(part(folder, "head_step"), part(folder, "body"))
    seal(folder)
    assert "body.onnx" in refused(folder)
    assert "body.onnx" in refused(folder)
    assert not (cache / "fbkit").exists()


@pytest.mark.parametrize("role", ["body", "head_step"])
@pytest.mark.parametrize(
    ("change", "said"), [(endless_loop, "is not done after 4 seconds"), (endless_memory, "onnxruntime cannot run it")]
)
def test_a_graph_without_end_is_stopped(
    folder: Path, role: str, change: Callable[[onnx.ModelProto, random.Random], None], said: str
) -> None:
    path = part(folder, role)
    model = onnx.load(path)
    change(model, random.Random(0))  # noqa: S311  it hides nothing
    path.write_bytes(model.SerializeToString())
    seal(folder)
    assert f"{path.name}: {said}" in refused(folder)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo ready; echo at body.onnx; kill -SEGV $$", "body.onnx: crashes its runtime (signal 11);"),
        ("echo ready; echo at body.onnx; echo at x.onnx; exit 3", "x.onnx: crashes its runtime (exit code 3);"),
        ("echo ready; echo at body.onnx; exec >&-; sleep 60", "body.onnx: is not done after 4 seconds"),
        ("echo ready; echo at body.onnx; sleep 60 & wait", "body.onnx: is not done after 4 seconds"),
        ("echo ready; echo at body.onnx; yes | tr -d '\\n'", "body.onnx: is not done after 4 seconds"),
        ("echo ready; echo at body.onnx; echo starved; sleep 60", "body.onnx: needs more memory than it should"),
        ("echo ready; echo at body.onnx; kill -XCPU $$", "body.onnx: is not done after 4 seconds"),
        ("echo no Python today >&2; exit 1", "cannot be tried out in a process of its own (no Python today)"),
        ("exit 1", "cannot be tried out in a process of its own (it ended with exit code 1)"),
        ("echo refused bundle: body.onnx: bad; sleep 60", "bundle: body.onnx: bad"),
    ],
)
def test_however_the_trial_ends_it_is_one_line(
    folder: Path, cache: Path, python: Callable[[str], Path], script: str, said: str
) -> None:
    python(script)
    assert said in refused(folder)
    assert not (cache / "fbkit").exists()


def test_without_a_python_to_start_there_is_no_trial(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "cannot be tried out, /nowhere/python does not start" in refused(folder)
    assert not (cache / "fbkit").exists()


@pytest.mark.usefixtures("cache")
def test_the_trial_gets_no_secrets_and_no_input(
    folder: Path, python: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_TOKEN", "hunter2")
    notes = python('env > "$notes"; cat >> "$notes"; exec "$real" "$@"')
    Bundle.open(folder)
    assert "hunter2" not in notes.read_text()
    assert "ORT_DISABLE_TELEMETRY=1" in notes.read_text()


def with_model(folder: Path, scale: float = 1.0) -> Path:
    """Add body and head in one file; a wrong one where ``scale`` is not 1."""
    bundle = Bundle.open(folder)
    body = onnx.load(part(folder, "body"))
    head = helper.make_model(
        helper.make_graph(
            [helper.make_node("Gemm", ["x", "weight", "bias"], ["logits"], transB=1)],
            "head",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", bundle.manifest.features])],
            [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", len(bundle.classes)])],
            [
                numpy_helper.from_array(np.float32(scale) * bundle.head.weight, "weight"),
                numpy_helper.from_array(bundle.head.bias, "bias"),
            ],
        ),
        opset_imports=body.opset_import,
        ir_version=body.ir_version,
    )
    both = compose.merge_models(
        body, compose.add_prefix(head, "head_"), [(body.graph.output[0].name, "head_x")], outputs=["head_logits"]
    )
    (folder / "model.onnx").write_bytes(both.SerializeToString())
    return add_file(folder, "model", "model.onnx")


def add_file(folder: Path, role: str, name: str) -> Path:
    value = json.loads((folder / "manifest.json").read_text())
    value[role] = {"file": name}
    value["files"][name] = {}
    (folder / "manifest.json").write_text(json.dumps(value))
    seal(folder)
    return folder


def test_a_full_model_is_tried_too(folder: Path, tmp_path: Path) -> None:
    wrong = with_model(Path(shutil.copytree(folder, tmp_path / "wrong")), scale=1.01)
    good = with_model(folder)
    assert check_bundle(good).errors["model_error"] < 1e-5
    assert "model.onnx: does not give the probe's logits here" in refused(wrong)
    shutil.copy(part(folder, "body"), folder / "model.onnx")
    seal(folder)
    assert "model.onnx: it gives float32 [8, " in refused(folder)


def test_a_training_module_is_tried_too(pte_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pte_bundle, tmp_path / "bundle"))
    bundle = Bundle.open(folder)
    head = nn.Linear(bundle.manifest.features, len(bundle.classes))
    head.weight.data, head.bias.data = from_numpy(bundle.head.weight.copy()), from_numpy(bundle.head.bias.copy())
    (folder / "training.pte").write_bytes(lower_training_module(head, bundle.manifest.step_batch))
    add_file(folder, "training_module", "training.pte")
    assert check_bundle(folder).errors["training_module_error"] < 1e-5
    head.weight.data *= 1.01
    (folder / "training.pte").write_bytes(lower_training_module(head, bundle.manifest.step_batch))
    seal(folder)
    assert "training.pte: does not compute the head's loss and logits here" in refused(folder)
    shutil.copy(part(folder, "head_step"), folder / "training.pte")
    seal(folder)
    assert "training.pte: ExecuTorch cannot run its method forward" in refused(folder)
