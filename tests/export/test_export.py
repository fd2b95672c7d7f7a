"""Exported bundles against torch, on the embedded test pictures; and exports that must not come about."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fbkit.console import Reporter
from fbkit.device_runtime import Bundle
from fbkit.device_runtime.manifest import read_manifest
from fbkit.device_runtime.pictures import load_picture
from fbkit.device_runtime.probe import probe_from_bytes
from fbkit.errors import UserError
from fbkit.export import export_run
from fbkit.export.folding import fold_body
from fbkit.export.trained_run import exportable_run
from fbkit.train.flower.federate import federate
from fbkit.train.flower.settings import read_recipe
from fbkit.train.models import build_model, norm_layers, set_static_statistics
from fbkit.train.partition import partition
from fbkit.train.recipe import DataRecipe, ModelRecipe
from fbkit.train.run_folder import Run
from fbkit.train.sources import load_dataset
from tests.conftest import FBKIT, Outcome
from tests.train.flower.silos import direct, settings, write_recipe, write_silos
from tests.train.picture_folders import write_pictures


def test_bundle_and_torch_agree_on_a_thousand_test_pictures(bundle_folder: Path, small_run: Run) -> None:
    """By hand: load the run's weights, run the unfolded model, compare features and every decided prediction."""
    bundle, model = Bundle.open(bundle_folder), small_run.load_model()
    images = load_dataset(DataRecipe()).test.images[:1000]
    with torch.no_grad():
        features = model.body((images.float() / 255 - 0.2860) / 0.3530)
        logits = model.head(features).numpy()
    found = bundle.features(list(images.permute(0, 2, 3, 1).numpy()))
    scale = features.abs().max().item()
    assert np.abs(found - features.numpy()).max() <= 1e-4 * scale
    found_logits = bundle.head.logits(found)
    error = np.abs(found_logits - logits).max()
    top = np.sort(logits, axis=1)
    decided = top[:, -1] - top[:, -2] > error
    assert decided.mean() > 0.95
    assert np.array_equal(found_logits.argmax(1)[decided], logits.argmax(1)[decided])


def test_the_manifest_tells_what_was_verified_and_where_it_comes_from(bundle_folder: Path, small_run: Run) -> None:
    manifest = read_manifest(bundle_folder)
    assert manifest.verification["pictures"] == 1000
    assert manifest.verification["feature_error"] < 1e-5
    assert manifest.verification["decided_agreement"] == 100
    assert manifest.verification["bundle_accuracy"] == pytest.approx(manifest.verification["torch_accuracy"], abs=0.2)
    assert manifest.provenance["recipe"] == small_run.recipe.model_dump(mode="json")
    assert manifest.classes == small_run.classes


def test_a_time_that_is_none_is_refused(small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("yesterday", "1e9", "9" * 30):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        with pytest.raises(UserError, match=r"SOURCE_DATE_EPOCH = .* whole seconds since 1970"):
            export_run(small_run.folder, "onnx", tmp_path / "new" / "bundle")
    assert not (tmp_path / "new").exists()


def test_the_probes_pictures_are_drawn_not_taken(bundle_folder: Path) -> None:
    manifest = read_manifest(bundle_folder)
    probe = probe_from_bytes((bundle_folder / manifest.probe).read_bytes(), manifest, "probe")
    data = load_dataset(DataRecipe())
    known = {image.numpy().tobytes() for part in (data.train, data.test) for image in part.images}
    assert not any(picture.tobytes() in known for picture in probe.pictures)
    assert probe.pictures.std(axis=(1, 2, 3)).min() > 30


def test_int8_is_calibrated_on_training_clients_pictures_alone(small_run: Run) -> None:
    exportable = exportable_run(small_run.folder, "int8", None, None, None)
    assert exportable.calibration is not None
    assert len(exportable.calibration) == 300
    data = load_dataset(DataRecipe())
    dealt = partition(data, small_run.recipe.clients, small_run.recipe.seed)
    images = data.train.images.permute(0, 2, 3, 1).numpy()
    allowed = {images[row].tobytes() for client in dealt.training for row in dealt.train[client].tolist()}
    held_out = {images[row].tobytes() for client in dealt.held_out for row in dealt.train[client].tolist()}
    chosen = {picture.tobytes() for picture in exportable.calibration.pictures}
    assert held_out
    assert chosen <= allowed
    assert not chosen & (held_out - allowed)
    labels = exportable.verification.labels
    assert labels is not None
    assert np.bincount(labels).min() > 60  # a fair share of every class


@pytest.mark.parametrize("target", ["onnx", "executorch"])
def test_a_run_in_int8_says_what_that_costs(
    target: str, small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome], full: bool
) -> None:
    if target == "executorch" and not full:
        pytest.skip("an own model is exported so in every run")
    out = tmp_path / "bundle"
    given = ["--precision", "int8", "--accept-loss", "--keep-float", "0"]
    outcome = fbkit("export", small_run.folder, "--target", target, "--out", out, *given)
    assert outcome.code == 0, outcome.err
    manifest = Bundle.open(out).manifest
    found = manifest.verification
    assert manifest.precision == "int8"
    assert manifest.provenance["calibrated_on"]["pictures"] == 300
    assert manifest.provenance["keep_float"] == ["0"]
    assert found["bundle_accuracy"] == pytest.approx(found["torch_accuracy"], abs=3)
    assert found["body_bytes"] == manifest.files[manifest.body].bytes
    assert 0.001 < found["feature_error_l2"] < 0.2


def test_a_folder_may_calibrate_a_run(small_run: Run, client: Path) -> None:
    paths = sorted((client / "train").glob("*/*"))
    exportable = exportable_run(small_run.folder, "int8", None, None, client / "train")
    assert exportable.calibration is not None
    assert len(exportable.calibration) == min(300, len(paths))
    decoded = {load_picture(path.read_bytes(), 1, 28, 28).tobytes() for path in paths}
    assert {picture.tobytes() for picture in exportable.calibration.pictures} <= decoded
    assert len(exportable.verification) == 1000


def test_a_run_whose_clients_kept_their_pictures_needs_others_for_int8(tmp_path: Path) -> None:
    """Federated over silos: the run's folder holds made-up pictures, by which nothing is to be judged or measured."""
    settled = settings({"out": str(tmp_path / "run")})
    recipe = read_recipe(write_recipe(tmp_path / "recipe.toml", training={"rounds": 1}))
    run = federate(recipe, settled, direct(write_silos(tmp_path / "silos")), Reporter(quiet=True))
    with pytest.raises(UserError, match=r"its clients kept their pictures, .*; give some with --calibrate FOLDER"):
        exportable_run(run.folder, "int8", None, None, None)
    plain = exportable_run(run.folder, "fp32", None, None, None)
    assert plain.verification.labels is None
    assert plain.choose_defaults().report == {"measured": False, "why": "the run's clients kept their pictures"}

    for name in run.classes:
        write_pictures(tmp_path / "own" / name, 40)
    exportable = exportable_run(run.folder, "int8", None, None, tmp_path / "own")
    assert exportable.calibration is not None
    assert exportable.verification.labels is not None
    assert len(exportable.calibration) == len(exportable.verification) == 60
    calibrated = {picture.tobytes() for picture in exportable.calibration.pictures}
    assert not calibrated & {picture.tobytes() for picture in exportable.verification.pictures}


def test_options_that_make_no_sense_end_in_one_line(
    small_run: Run, client: Path, tmp_path: Path, fbkit: Callable[..., Outcome]
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(next((client / "test").glob("*/*")), few)
    for arguments, said in (
        (("--calibrate", client / "train"), "--calibrate is for --precision int8"),
        (("--calibrate", few, "--precision", "int8"), "1 pictures are too few for --precision int8, which needs"),
        (("--with-training-module",), "--with-training-module is for --target executorch"),
        (("--accept-loss",), "--accept-loss is for --precision int8"),
    ):
        outcome = fbkit("export", small_run.folder, "--target", "onnx", "--out", tmp_path / "bundle", *arguments)
        assert outcome.code == 2
        assert said in outcome.err
        assert outcome.err.count("\n") == 1
        assert not (tmp_path / "bundle").exists()


def test_folding_removes_every_normalisation_and_changes_nothing_else() -> None:
    model = build_model(ModelRecipe(width=8), (1, 28, 28), 10, seed=0)
    generator = torch.Generator().manual_seed(0)
    for layer in norm_layers(model).values():
        nn.init.uniform_(layer.weight, 0.5, 2, generator=generator)
        nn.init.normal_(layer.bias, generator=generator)
    statistics = {
        name: (torch.randn(8, generator=generator), torch.rand(8, generator=generator) + 0.1)
        for name in norm_layers(model)
    }
    set_static_statistics(model, statistics)
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = fold_body(model.body)
    assert not norm_layers(folded)
    images = torch.randn(5, 1, 28, 28, generator=generator)
    torch.testing.assert_close(folded(images), model.body(images), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("target", ["onnx", "executorch"])
def test_ctrl_c_ends_at_once_in_one_line_and_leaves_nothing(
    small_run: Run, tmp_path: Path, target: str, full: bool
) -> None:
    for seconds in [0.3, 0.8, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0] if full else [2.5]:
        out = tmp_path / "out" / "bundle"
        command = [FBKIT, "export", small_run.folder, "--target", target, "--out", out]
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        if process.returncode == 0:  # it was done before
            shutil.rmtree(out)
            continue
        assert process.returncode == 130, errors
        assert errors == "fbkit: interrupted\n"
        assert not out.parent.exists() or not list(out.parent.iterdir())


def test_bad_input_ends_in_one_line(small_run: Run, tmp_path: Path, fbkit: Callable[..., Outcome]) -> None:
    unfinished, cut, taken = tmp_path / "unfinished", tmp_path / "cut", tmp_path / "taken"
    shutil.copytree(small_run.folder, unfinished)
    (unfinished / "evaluation.json").unlink()
    shutil.copytree(small_run.folder, cut)
    weights = cut / "body.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    taken.mkdir()
    (taken / "file").touch()
    out = tmp_path / "new" / "bundle"
    cases = [
        ((tmp_path / "none", "--target", "onnx", "--out", out), "none: no such run folder"),
        ((tmp_path, "--target", "onnx", "--out", out), "run.json: no such file"),
        ((unfinished, "--target", "onnx", "--out", out), "not complete; finish it with: fbkit train --out"),
        ((cut, "--target", "onnx", "--out", out), "body.safetensors: not a whole safetensors file"),
        ((small_run.folder, "--target", "tflite", "--out", out), "--target"),
        ((small_run.folder, "--target", "onnx", "--out", taken), "taken: exists already"),
        ((small_run.folder, "--target", "onnx"), "Missing option '--out'"),
    ]
    for arguments, said in cases:
        outcome = fbkit("export", *arguments)
        assert outcome.code == 2, outcome
        assert said in outcome.err, outcome
        assert outcome.err.count("\n") == 1, outcome
        assert not out.parent.exists() or not list(out.parent.iterdir())
    assert [path.name for path in taken.iterdir()] == ["file"]
