"""Bundles of both targets: whole ones open, altered ones are refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fbkit.device_runtime import Bundle
from fbkit.device_runtime.manifest import read_manifest
from tests.conftest import Outcome
from tests.device_runtime.mutations import part, seal


@pytest.fixture
def copied(bundle_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def test_a_whole_bundle_opens_and_checks(copied: Path, fbkit: Callable[..., Outcome]) -> None:
    bundle = Bundle.open(copied)
    assert bundle.self_test.feature_error < 1e-5
    outcome = fbkit("check", copied, "--json")
    assert outcome.code == 0
    report = json.loads(outcome.out)
    assert report["ok"]
    assert max(report["errors"].values()) < 1e-5
    shown = json.loads(fbkit("inspect", copied, "--json").out)
    assert shown["identity"] == bundle.manifest.identity
    assert shown["features"] == bundle.head.weight.shape[1]
    for command in ("check", "inspect"):
        assert fbkit(command, copied).code == 0


@pytest.mark.parametrize("size", [1, 2, 7, 16, 31, 32, 33, 100])
def test_a_picture_has_the_same_features_alone_and_in_any_batch(bundle_folder: Path, size: int) -> None:
    bundle = Bundle.open(bundle_folder)
    spec = bundle.manifest.input
    shape = (size, spec.height, spec.width, spec.channels)
    pictures = np.random.default_rng(size).integers(0, 256, shape).astype(np.uint8)
    together = bundle.features(list(pictures))
    alone = np.concatenate([bundle.features([picture]) for picture in pictures])
    assert together.shape == (size, bundle.manifest.features)
    assert np.abs(alone - together).max() <= 1e-5 * np.abs(together).max()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_link(path: Path) -> None:
    moved = path.rename(path.parent.parent / path.name)
    path.symlink_to(moved)


@pytest.mark.parametrize("role", ["body", "head", "head_step", "probe"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, "bytes, manifest.json says"),
        (flip_a_bit, "was altered"),
        (Path.unlink, "cannot be read (No such file"),
        (replace_by_link, "not a plain file"),
    ],
)
def test_a_damaged_file_is_refused_by_name(
    copied: Path, role: str, damage: Callable[[Path], None], said: str, fbkit: Callable[..., Outcome]
) -> None:
    path = part(copied, role)
    damage(path)
    outcome = fbkit("check", copied)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith(f"fbkit: {path}: ")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def other_weights(folder: Path) -> None:
    path = part(folder, "head")
    tensors = load_file(path)
    save_file({**tensors, "weight": tensors["weight"] * 1.01}, path)


def nan_weights(folder: Path) -> None:
    path = part(folder, "head")
    tensors = load_file(path)
    tensors["weight"][0, 0] = np.nan
    save_file(tensors, path)


def wrong_shape(folder: Path) -> None:
    path = part(folder, "head")
    save_file({name: tensor[:-1] for name, tensor in load_file(path).items()}, path)


def rubbish_body(folder: Path) -> None:
    part(folder, "body").write_bytes(b"rubbish" * 100)


def step_as_body(folder: Path) -> None:
    shutil.copy(part(folder, "head_step"), part(folder, "body"))


def rubbish_probe(folder: Path) -> None:
    part(folder, "probe").write_bytes(b"\x08" + b"\0" * 7 + b"{}      ")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_weights, "self-test fails on this machine: logit error"),
        (nan_weights, "weight holds values that are not finite"),
        (wrong_shape, "weight is float32 [9, "),
        (rubbish_body, "cannot load it"),
        (step_as_body, "body."),
        (rubbish_probe, "probe.safetensors: holds []"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_even_with_right_checksums(
    copied: Path, change: Callable[[Path], None], said: str, fbkit: Callable[..., Outcome]
) -> None:
    change(copied)
    seal(copied)
    outcome = fbkit("check", copied)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_broken_step_graph_is_found_by_check(copied: Path, fbkit: Callable[..., Outcome]) -> None:
    shutil.copy(part(copied, "body"), part(copied, "head_step"))
    seal(copied)
    outcome = fbkit("check", copied)
    assert outcome.code == 2
    assert "head_step" in outcome.err
    assert outcome.err.count("\n") == 1


def test_both_targets_compute_the_same(onnx_bundle: Path, pte_bundle: Path) -> None:
    onnx, pte = Bundle.open(onnx_bundle), Bundle.open(pte_bundle)
    spec = read_manifest(onnx_bundle).input
    pictures = np.random.default_rng(0).integers(0, 256, (40, spec.height, spec.width, spec.channels)).astype(np.uint8)
    first, second = onnx.features(list(pictures)), pte.features(list(pictures))
    assert np.abs(first - second).max() <= 1e-4 * np.abs(first).max()
