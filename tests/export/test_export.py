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

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.manifest import read_manifest
from fbkit.device_runtime.probe import probe_from_bytes
from fbkit.errors import UserError
from fbkit.export import exporting, onnx_target, verification
from fbkit.export.exporting import export_run
from fbkit.export.folding import fold_body
from fbkit.export.head_step import HeadStep
from fbkit.export.target import Lowered
from fbkit.train.models import build_model, norm_layers, set_static_statistics
from fbkit.train.recipe import DataRecipe, ModelRecipe
from fbkit.train.run_folder import Run
from fbkit.train.sources import load_dataset
from tests.conftest import FBKIT, Outcome


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


def test_exporting_twice_gives_the_same_files(small_run: Run, onnx_bundle: Path, tmp_path: Path) -> None:
    export_run(small_run.folder, "onnx", tmp_path / "again")
    for name in read_manifest(onnx_bundle).files:
        assert (tmp_path / "again" / name).read_bytes() == (onnx_bundle / name).read_bytes()


def test_no_path_of_this_machine_stays_in_an_onnx_bundle(onnx_bundle: Path) -> None:
    for path in onnx_bundle.iterdir():
        data = path.read_bytes()
        for trace in (b"site-packages", b".py", str(Path(__file__).parent.parent.parent).encode(), b"stack_trace"):
            assert trace not in data, f"{path.name} holds {trace!r}"


def test_the_probes_pictures_are_drawn_not_taken(bundle_folder: Path) -> None:
    manifest = read_manifest(bundle_folder)
    probe = probe_from_bytes((bundle_folder / manifest.probe).read_bytes(), manifest, "probe")
    data = load_dataset(DataRecipe())
    known = {image.numpy().tobytes() for part in (data.train, data.test) for image in part.images}
    assert not any(picture.tobytes() in known for picture in probe.pictures)
    assert probe.pictures.std(axis=(1, 2, 3)).min() > 30


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


def test_the_step_module_is_torchs_sgd_on_a_weighted_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(6, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    state = [layer.weight.detach().clone(), layer.bias.detach().clone(), torch.zeros(4, 6), torch.zeros(4)]
    step = HeadStep(4)
    for rows in (5, 3, 5, 1):
        features = torch.randn(5, 6, generator=generator)
        labels = torch.randint(0, 4, (5,), generator=generator)
        counted = (torch.arange(5) < rows).float()
        loss = nn.functional.cross_entropy(layer(features[:rows]), labels[:rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found, *state = step(features, labels, counted, *state, torch.tensor([0.1]), torch.tensor([0.9]))
        torch.testing.assert_close(found, loss.detach().reshape(1))
    torch.testing.assert_close(state[0], layer.weight.detach())
    torch.testing.assert_close(state[1], layer.bias.detach())


def test_a_wrong_body_is_found_and_nothing_is_written(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lower = onnx_target.lower

    def slightly_wrong(body: nn.Module, shape: tuple[int, int, int], features: int, classes: int) -> Lowered:
        next(body.parameters()).data[0, 0, 0, 0] += 0.05
        return lower(body, shape, features, classes)

    monkeypatch.setattr(onnx_target, "lower", slightly_wrong)
    with pytest.raises(UserError, match=r"self-test fails|differs from torch"):
        export_run(small_run.folder, "onnx", tmp_path / "out" / "bundle")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_difference_on_real_pictures_alone_is_found(
    small_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = verification.verify

    def verify_against_another_model(bundle: Bundle, model: nn.Module, *rest: object) -> object:
        model.body[0].weight.data += 1e-2  # type: ignore[index, union-attr]
        return original(bundle, model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "verify", verify_against_another_model)
    with pytest.raises(UserError, match="the exported body differs from torch"):
        export_run(small_run.folder, "onnx", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


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
